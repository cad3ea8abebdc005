"""What is known of the two logins: readers look at files and variables, `status.py` says what that means."""
