"""What the Redis store does on the server: how it keeps things there, and its scripts. Knows no client, no connection.

    hub:record:{key}    string: a head of 19 bytes with its place in its list, then the value
    hub:list:{list}     sorted set of record keys by that place; one whose record says otherwise is not there any more
    hub:log:{key}       list of values
    hub:until:{lease}   sorted set of holders by the end of their time, in ms of the server's clock
    hub:since:{lease}   sorted set of the same holders by their order
    hub:count:…         not ours: what the library `limits` counts (`serving/limits.py`)

Whatever reads and then writes is one script, so it happens as a whole, on the server's clock. Everything ends by
itself: with its time, or a day after its last renewal. What others have put under these keys counts as absent.
"""

from __future__ import annotations

RECORD, LIST, LOG, UNTIL, SINCE = b"hub:record:", b"hub:list:", b"hub:log:", b"hub:until:", b"hub:since:"

# What the scripts share. `TIME` before a write needs Redis 5; ZRANDMEMBER 6.2.
_SHARED = """
local function sound(key, kind)  -- what is of another kind is nobody's
  local is = redis.call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then redis.call('DEL', key) end
end
local function clock() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local function number(n) return string.format('%.0f', n) end
local function place(key)  -- false where there is no record
  local head = redis.pcall('GETRANGE', key, 0, 18)
  return type(head) == 'string' and string.match(head, '^1:(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d):$') or false
end
local function stands(member, score)  -- whether a list's member is a record that says so itself
  if string.sub(member, 1, 11) ~= 'hub:record:' then return false end
  local at = place(member)
  return at and tonumber(at) == tonumber(score)
end
"""

# What `PUT` and `APPEND` share.
_WRITE = """
local function write(record, list, value, ttl)
  local at = place(record)
  local new, far = false, nil
  if list then
    sound(list, 'zset')
    local score = at and redis.call('ZSCORE', list, record)
    new = not (score and tonumber(score) == tonumber(at))
    if new then
      far = number(clock() + 31536000000000)
      local last = redis.call('ZREVRANGEBYSCORE', list, far, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or 0
      at = string.format('%016.0f', math.max(clock(), tonumber(last) + 1))
    end
  end
  -- The first write: where this one is refused, as on a full server, nothing has been done yet.
  redis.call('SET', record, '1:' .. (at or '0000000000000000') .. ':' .. value, 'PX', ttl)
  if list then
    if new then
      redis.call('ZADD', list, at, record)
      redis.call('ZREMRANGEBYSCORE', list, '(' .. far, '+inf')  -- no hub's: none of ours could ever follow it
      -- A few at random each time: however long the list's first stays, few that are gone are ever left in it.
      local some = redis.call('ZRANDMEMBER', list, 8, 'WITHSCORES')
      for i = 1, #some, 2 do
        if not stands(some[i], some[i + 1]) then redis.call('ZREM', list, some[i]) end
      end
    end
    if redis.call('PTTL', list) < tonumber(ttl) then redis.call('PEXPIRE', list, ttl) end
  end
end
"""

# KEYS record, list?; ARGV value, ttl
_PUT = """
write(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
"""

# KEYS record; ARGV value, ttl
_ADD = """
if place(KEYS[1]) then return 0 end
redis.call('SET', KEYS[1], '1:0000000000000000:' .. ARGV[1], 'PX', ARGV[2])
return 1
"""

# What reads values: where they are larger than ARGV[1] bytes together it answers with their size, so that the caller
# can give them the time they need. It writes nothing: a replica answers too, and a full server.

# KEYS record, ...; ARGV most
_GET = """
local size = 0
for _, record in ipairs(KEYS) do
  if place(record) then size = size + redis.call('STRLEN', record) end
end
if size > tonumber(ARGV[1]) then return size end
local found = {}
for i, record in ipairs(KEYS) do
  found[i] = place(record) and string.sub(redis.call('GET', record), 20)
end
return found
"""

# KEYS list; ARGV most, limit
_NEWEST = """
local records, size, limit, from = {}, 0, tonumber(ARGV[2]), 0
while #records < limit do
  local some = redis.pcall('ZREVRANGE', KEYS[1], from, from + 31, 'WITHSCORES')
  if some.err or #some == 0 then break end
  for i = 1, #some, 2 do
    if #records < limit and stands(some[i], some[i + 1]) then
      records[#records + 1] = some[i]
      size = size + redis.call('STRLEN', some[i])
    end
  end
  from = from + 32
end
if size > tonumber(ARGV[1]) then return size end
for i, record in ipairs(records) do records[i] = string.sub(redis.call('GET', record), 20) end
return records
"""

# KEYS log; ARGV most
_ENTRIES = """
local entries, size = redis.pcall('LRANGE', KEYS[1], 0, -1), 0
if entries.err then return {} end
for _, entry in ipairs(entries) do size = size + #entry end
if size > tonumber(ARGV[1]) then return size end
return entries
"""

# KEYS log, record, list, record, list, ...; ARGV value, at, ttl, value, ttl, value, ttl, ...; no list: the record again
_APPEND = """
sound(KEYS[1], 'list')
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i = 2, #KEYS, 2 do write(KEYS[i], KEYS[i + 1] ~= KEYS[i] and KEYS[i + 1], ARGV[i + 2], ARGV[i + 3]) end
return 1
"""

# A full server refuses what could need memory only as long as a script has not written. Leases are small, and must not
# lapse because of somebody's long texts: so each script begins with a write that is always allowed.
_LEASES = """
local now = math.floor(clock() / 1000)
local function ready(til, since, kept)
  redis.call('PEXPIRE', til, kept)
  sound(til, 'zset')
  sound(since, 'zset')
  for _, range in ipairs({{'-inf', number(now - kept)}, {number(now + kept + 1), '+inf'}}) do  -- long over; no hub's
    for _, holder in ipairs(redis.call('ZRANGEBYSCORE', til, range[1], range[2])) do
      redis.call('ZREM', til, holder)
      redis.call('ZREM', since, holder)
    end
  end
end
local function hold(til, since, holder, ttl, kept, anew)
  redis.call('ZADD', til, number(now + ttl), holder)
  if anew or not redis.call('ZSCORE', since, holder) then
    local last = redis.call('ZRANGE', since, -1, -1, 'WITHSCORES')[2] or 0
    redis.call('ZADD', since, number(last + 1), holder)
  end
  redis.call('PEXPIRE', til, kept)
  redis.call('PEXPIRE', since, kept)
end
"""

# KEYS until, since; ARGV kept, ttl, holder, limit
_TAKE = """
local kept = tonumber(ARGV[1])
ready(KEYS[1], KEYS[2], kept)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[3])
local mine = ends and tonumber(ends) > now
if not mine and redis.call('ZCOUNT', KEYS[1], '(' .. number(now), '+inf') >= tonumber(ARGV[4]) then return 0 end
hold(KEYS[1], KEYS[2], ARGV[3], tonumber(ARGV[2]), kept, not mine)
return 1
"""

# KEYS until, since, until, since, ...; ARGV kept, ttl, holder, holder, ...
_RENEW = """
local kept = tonumber(ARGV[1])
local readied = {}
for i = 3, #ARGV do
  local til, since = KEYS[2 * i - 5], KEYS[2 * i - 4]
  if not readied[til] then ready(til, since, kept) end
  readied[til] = true
  hold(til, since, ARGV[i], tonumber(ARGV[2]), kept, false)
end
"""

# KEYS until, since, until, since, ...; ARGV holder, holder, ...
_RELEASE = """
for i = 1, #ARGV do
  redis.pcall('ZREM', KEYS[2 * i - 1], ARGV[i])
  redis.pcall('ZREM', KEYS[2 * i], ARGV[i])
end
"""

# KEYS until, since; ARGV kept. The holders in order: those that live, and those that have lapsed.
_HOLDERS = """
local live, over = {}, {}
local function all(key)
  local some = redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES')
  return some.err and {} or some
end
local ends = {}
local those = all(KEYS[1])
for i = 1, #those, 2 do ends[those[i]] = tonumber(those[i + 1]) end
local order = all(KEYS[2])
for i = 1, #order, 2 do
  local till = ends[order[i]]
  if till and math.abs(till - now) <= tonumber(ARGV[1]) then
    if till <= now then over[#over + 1] = order[i] else live[#live + 1] = order[i] end
  end
end
return {live, over}
"""

# KEYS until, ...; ARGV kept, beginning
_LAPSE = """
for _, til in ipairs(KEYS) do
  redis.call('PEXPIRE', til, ARGV[1])
  sound(til, 'zset')
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', til, '(' .. number(now), '+inf')) do
    if string.sub(holder, 1, #ARGV[2]) == ARGV[2] then redis.call('ZADD', til, number(now), holder) end
  end
end
"""


def _script(*parts: str) -> bytes:
    return "".join((_SHARED, *parts)).encode()


PUT, ADD, APPEND = _script(_WRITE, _PUT), _script(_ADD), _script(_WRITE, _APPEND)
GET, NEWEST, ENTRIES = _script(_GET), _script(_NEWEST), _script(_ENTRIES)
TAKE, RENEW, RELEASE = _script(_LEASES, _TAKE), _script(_LEASES, _RENEW), _script(_RELEASE)
HOLDERS, LAPSE = _script(_LEASES, _HOLDERS), _script(_LEASES, _LAPSE)
