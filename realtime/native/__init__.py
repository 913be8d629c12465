"""The loop that sends the same bytes to many sockets: in C where that was built, else its pure twin."""
