"""Many tiny networks side by side: lanes are members, and the code is written for one network."""
