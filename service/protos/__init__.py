"""The messages of gRPC: `.proto` files, and the modules that the build makes of them."""
