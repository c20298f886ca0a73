//! The objects of the test server: buckets in memory, with the conditional writes of S3.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

/// Everything that is stored.
#[derive(Default)]
pub(super) struct Objects {
    buckets: Mutex<BTreeMap<String, BTreeMap<String, Stored>>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<i32, Bytes>>>,
}

#[derive(Clone)]
struct Stored {
    content: Bytes,
    tag: String,
    modified: SystemTime,
}

impl Objects {
    pub(super) fn create_bucket(&self, bucket: &str) {
        self.buckets.lock().entry(bucket.to_owned()).or_default();
    }

    /// Keys and sizes of a bucket.
    pub(super) fn list(&self, bucket: &str) -> Vec<(String, u64)> {
        let buckets = self.buckets.lock();
        let objects = buckets.get(bucket).into_iter().flatten();
        objects.map(|(key, object)| (key.clone(), object.content.len() as u64)).collect()
    }

    /// Flips a bit in the middle of an object.
    pub(super) fn corrupt(&self, bucket: &str, key: &str) -> bool {
        let mut buckets = self.buckets.lock();
        let Some(object) = buckets.get_mut(bucket).and_then(|objects| objects.get_mut(key)) else { return false };
        let mut content = object.content.to_vec();
        let middle = content.len() / 2;
        let Some(byte) = content.get_mut(middle) else { return false };
        *byte ^= 0x10;
        object.content = content.into();
        true
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        let buckets = self.buckets.lock();
        let objects = buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Decides and writes in one step, as S3 does.
    fn store(
        &self,
        (bucket, key): (&str, &str),
        content: Bytes,
        if_match: Option<&ETagCondition>,
        if_none_match: Option<&ETagCondition>,
    ) -> S3Result<ETag> {
        let mut buckets = self.buckets.lock();
        let objects = buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let found = objects.get(key).map(|o| o.tag.as_str());
        match (if_match, found) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey)),
            (Some(ETagCondition::ETag(wanted)), Some(found)) if wanted.value() != found => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        if if_none_match.is_some() && found.is_some() {
            return Err(s3_error!(PreconditionFailed));
        }
        let tag = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&content));
        objects.insert(key.to_owned(), Stored { content, tag: tag.clone(), modified: SystemTime::now() });
        Ok(ETag::Strong(tag))
    }

    fn remove(&self, bucket: &str, key: &str) -> S3Result<()> {
        let mut buckets = self.buckets.lock();
        buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?.remove(key);
        Ok(())
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let chunks: Vec<Bytes> = body.try_collect().await.map_err(|_| s3_error!(IncompleteBody))?;
    Ok(Bytes::from(chunks.concat()))
}

/// [`Objects`] behind the S3 protocol.
#[derive(Clone)]
pub(super) struct Api(pub(super) Arc<Objects>);

#[async_trait::async_trait]
impl S3 for Api {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let content = collect(input.body).await?;
        let name = (input.bucket.as_str(), input.key.as_str());
        let tag = self.0.store(name, content, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(tag), ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.0.find(&input.bucket, &input.key)?;
        let total = object.content.len() as u64;
        let (content, content_range) = match input.range {
            None => (object.content, None),
            Some(range) => {
                let range = range.check(total)?;
                let shown = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                (object.content.slice(range.start as usize..range.end as usize), Some(shown))
            }
        };
        let length = content.len() as i64;
        let body = futures::stream::once(async move { Ok::<_, std::io::Error>(content) });
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(body)),
            content_length: Some(length),
            content_range,
            e_tag: Some(ETag::Strong(object.tag)),
            last_modified: Some(Timestamp::from(object.modified)),
            ..Default::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.0.find(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.content.len() as i64),
            e_tag: Some(ETag::Strong(object.tag)),
            last_modified: Some(Timestamp::from(object.modified)),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.remove(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            self.0.remove(&input.bucket, &object.key)?;
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let buckets = self.0.buckets.lock();
        let objects = buckets.get(&input.bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let limit = input.max_keys.unwrap_or(1000).clamp(1, 1000) as usize;
        let (mut contents, mut directories) = (Vec::new(), BTreeSet::new());
        let mut next = None;
        let mut last = String::new();
        for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after) {
            if contents.len() + directories.len() >= limit {
                next = Some(last);
                break;
            }
            last.clone_from(key);
            let rest = &key[prefix.len()..];
            match input.delimiter.as_ref().filter(|d| !d.is_empty()).and_then(|d| rest.split_once(d.as_str())) {
                Some((directory, _)) => {
                    let delimiter = input.delimiter.as_deref().unwrap_or_default();
                    directories.insert(format!("{prefix}{directory}{delimiter}"));
                }
                None => contents.push(Object {
                    key: Some(key.clone()),
                    size: Some(object.content.len() as i64),
                    e_tag: Some(ETag::Strong(object.tag.clone())),
                    last_modified: Some(Timestamp::from(object.modified)),
                    ..Default::default()
                }),
            }
        }
        let count = contents.len() + directories.len();
        let directories = directories.into_iter().map(|p| CommonPrefix { prefix: Some(p) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            prefix: Some(prefix),
            key_count: Some(count as i32),
            max_keys: Some(limit as i32),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(directories),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        if !self.0.buckets.lock().contains_key(&request.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.0.uploads.lock().insert(id.clone(), BTreeMap::new());
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(request.input.bucket),
            key: Some(request.input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let content = collect(input.body).await?;
        let tag = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&content));
        let mut uploads = self.0.uploads.lock();
        let parts = uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        parts.insert(input.part_number, content);
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let parts = self.0.uploads.lock().remove(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let content: Vec<Bytes> = parts.into_values().collect();
        let name = (input.bucket.as_str(), input.key.as_str());
        let tag = self.0.store(name, content.concat().into(), input.if_match.as_ref(), input.if_none_match.as_ref())?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(tag),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.uploads.lock().remove(&request.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
