"""What operators are given beside the service, run for real where that can be done."""
