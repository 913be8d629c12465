import os

# gRPC's handlers of fork start threads in the child, which closes its descriptors and runs another program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
