"""A package, unlike the folders in it: zeebe-grpc installs a package `tests` of its own, which would be found first."""
