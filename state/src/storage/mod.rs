//! URI schemes to object stores: `file://`, `memory://`, `s3://`, `s3a://`, `s3p://`.

/// All object stores that a process uses, by scheme and bucket, made when first asked for.
#[derive(Default)]
pub struct ObjectStores {}
