"""What was read stays for requests that begin in the same way: a tree over tokens with states to continue from."""
