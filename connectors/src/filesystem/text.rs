//! Reading one split of a text format: bytes are fetched off-thread, records found and decoded in
//! steps on the task's thread.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use arrow::array::ArrayRef;
use flate2::bufread::MultiGzDecoder;

use super::discovery::is_gzip;
use super::fetch::{Fetched, Producer};
use super::source::{Polled, SplitContext, SplitReader};
use super::split::{FileSplit, Position, WHOLE};
use crate::error::{Error, Result};
use crate::formats::decoder::{RecordDecoder, RecordError, ScanLimits};

/// Bytes fetched at once.
const CHUNK: usize = 1 << 20;
/// Text that one batch is made from at most.
const TARGET_TEXT: usize = 2 << 20;
/// A longer record is refused.
const MAX_RECORD: usize = 1 << 30;

/// Bytes of the file and their (uncompressed) offset.
struct Chunk {
    offset: u64,
    bytes: Vec<u8>,
}

/// See the module documentation.
pub struct TextReader {
    split: FileSplit,
    fetcher: super::fetch::Fetcher<Chunk>,
    decoder: Box<dyn RecordDecoder>,
    /// Bytes that were fetched, from `base` of the file on.
    buffer: Vec<u8>,
    base: u64,
    /// Rows before this offset of the buffer were emitted.
    emitted: usize,
    /// Records before this offset were scanned.
    scanned: usize,
    ended: bool,
    position: Position,
}

impl TextReader {
    /// Goes on in `split` at `position`.
    pub fn new(split: FileSplit, position: Position, decoder: Box<dyn RecordDecoder>, context: &SplitContext) -> Self {
        let producer = producer(&split, &position);
        TextReader {
            fetcher: context.fetcher(producer),
            decoder,
            buffer: Vec::new(),
            base: position.offset,
            emitted: 0,
            scanned: 0,
            ended: false,
            position,
            split,
        }
    }

    /// Offset in the buffer at which records of the next split begin.
    fn until(&self) -> usize {
        usize::try_from(self.split.end.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn append(&mut self, chunk: Chunk) -> Result<()> {
        if self.decoder.pending() == 0 {
            self.advance();
            self.buffer.drain(..self.emitted);
            self.base += self.emitted as u64;
            (self.emitted, self.scanned) = (0, 0);
        }
        if self.buffer.is_empty() {
            self.base = chunk.offset;
            self.buffer = chunk.bytes;
        } else {
            self.buffer.extend_from_slice(&chunk.bytes);
        }
        if self.buffer.len() - self.scanned > MAX_RECORD {
            return Err(self.failed(RecordError {
                row: 0,
                offset: self.scanned,
                path: Vec::new(),
                reason: "the record is longer than 1 GiB".into(),
            }));
        }
        Ok(())
    }

    /// Moves the position behind what was scanned.
    fn advance(&mut self) {
        self.position.lines += memchr::memchr_iter(b'\n', &self.buffer[self.emitted..self.scanned]).count() as u64;
        self.emitted = self.scanned;
        self.position.offset = self.base + self.emitted as u64;
        self.position.begun = true;
    }

    fn build(&mut self) -> Result<Polled> {
        let rows = self.decoder.pending();
        let columns: Vec<ArrayRef> = self.decoder.finish(&self.buffer).map_err(|e| self.failed(e))?;
        self.advance();
        self.position.rows += rows as u64;
        Ok(Polled::Rows { columns, rows, kinds: self.decoder.take_kinds() })
    }

    /// Names file, line and field.
    fn failed(&self, error: RecordError) -> Error {
        let place = if self.split.start == 0 {
            let lines = memchr::memchr_iter(b'\n', &self.buffer[self.emitted..error.offset.max(self.emitted)]).count();
            format!("line {}", self.position.lines + lines as u64 + 1)
        } else {
            format!("the line at byte {}", self.base + error.offset as u64)
        };
        let field = match error.path.is_empty() {
            true => String::new(),
            false => format!(", field '{}'", error.path.join(".")),
        };
        Error::Data(format!("file '{}', {place}{field}: {}", self.split.path, error.reason))
    }
}

impl SplitReader for TextReader {
    fn poll(&mut self, max_rows: usize) -> Result<Polled> {
        loop {
            let limits = ScanLimits { at_end: self.ended, until: self.until(), rows: max_rows };
            let scanned = self.decoder.scan(&self.buffer, self.scanned, limits).map_err(|e| self.failed(e))?;
            self.scanned = scanned.end;
            let pending = self.decoder.pending();
            if pending >= max_rows || pending > 0 && self.scanned - self.emitted >= TARGET_TEXT {
                return self.build();
            }
            if self.scanned >= self.until() || scanned.starved && self.ended {
                return if pending > 0 { self.build() } else { Ok(Polled::End) };
            }
            if !scanned.starved {
                continue;
            }
            match self.fetcher.take()? {
                Fetched::Item(chunk) => self.append(chunk)?,
                Fetched::End => self.ended = true,
                Fetched::Waiting if pending > 0 => return self.build(),
                Fetched::Waiting => return Ok(Polled::Waiting),
            }
        }
    }

    fn position(&self) -> Position {
        self.position
    }

    fn split(&self) -> &FileSplit {
        &self.split
    }
}

/// Reads the split's file in chunks from its position on, to the end of the file: a split's last
/// record may reach into the next.
fn producer(split: &FileSplit, position: &Position) -> Producer<Chunk> {
    let path = PathBuf::from(&split.path);
    let (start, end, position) = (split.start, split.end, *position);
    let mut open: Option<(Box<dyn BufRead + Send>, u64)> = None;
    Box::new(move || {
        let failed = |e: &std::io::Error| Error::io(format_args!("file '{}' cannot be read", path.display()), e);
        let (reader, offset) = match &mut open {
            Some(open) => open,
            None => open.insert(start_reading(&path, start, &position).map_err(|e| failed(&e))?),
        };
        // Far behind the end nothing is wanted, but a record that begins before may be long.
        if end != WHOLE && *offset > end.saturating_add(MAX_RECORD as u64) {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(CHUNK);
        reader.take(CHUNK as u64).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let chunk = Chunk { offset: *offset, bytes };
        *offset += chunk.bytes.len() as u64;
        Ok(Some(chunk))
    })
}

/// A reader of the file and the offset at which it stands: that of the first record to read.
fn start_reading(
    path: &std::path::Path,
    start: u64,
    position: &Position,
) -> std::io::Result<(Box<dyn BufRead + Send>, u64)> {
    let mut file = File::open(path)?;
    if is_gzip(path) {
        let mut reader = BufReader::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK / 4, file)));
        skip(&mut reader, position.offset)?;
        return Ok((Box::new(reader), position.offset));
    }
    if position.begun {
        if file.metadata()?.len() < position.offset {
            return Err(std::io::Error::other("it has become shorter since the checkpoint was taken"));
        }
        file.seek(SeekFrom::Start(position.offset))?;
        return Ok((Box::new(BufReader::with_capacity(CHUNK / 4, file)), position.offset));
    }
    if start == 0 {
        return Ok((Box::new(BufReader::with_capacity(CHUNK / 4, file)), 0));
    }
    // The first record is the one behind the first line break at or behind the byte before.
    file.seek(SeekFrom::Start(start - 1))?;
    let mut reader = BufReader::with_capacity(CHUNK / 4, file);
    let skipped = reader.skip_until(b'\n')? as u64;
    Ok((Box::new(reader), start - 1 + skipped))
}

fn skip(reader: &mut impl Read, bytes: u64) -> std::io::Result<()> {
    let skipped = std::io::copy(&mut reader.take(bytes), &mut std::io::sink())?;
    if skipped < bytes {
        return Err(std::io::Error::other("it has become shorter since the checkpoint was taken"));
    }
    Ok(())
}
