import os

# The tests start processes while a gRPC client of theirs is at work: it is to leave forks alone.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
