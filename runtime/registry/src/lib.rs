//! Model folders: versions, manifests, digests; atomic on disk.
