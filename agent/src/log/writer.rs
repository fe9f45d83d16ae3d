//! The helper process: container output in, log file and live feed out.
//!
//! Runs as its own small process without an async runtime, so that it costs little and neither an
//! agent's nor containerd's end stops it. It ends when the container has closed its streams.
//! Invariant: bytes are in the log file before any connected reader hears of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use jiff::Timestamp;

use super::{HelperConfig, Stream, feed, format::LineCutter};

/// Size at which a log file is put aside, as kubelet's `containerLogMaxSize`.
const MAX_SIZE: u64 = 10 << 20;
/// Files of one container run, as kubelet's `containerLogMaxFiles`.
const MAX_FILES: usize = 5;
/// A connected reader that takes nothing for this long is let go: output must not stall for it.
const READER_PATIENCE: Duration = Duration::from_secs(10);

/// The body of the helper process. `args` is what follows the command's name: the path of the
/// JSON file that the agent wrote. Blocks until the container's streams have ended.
///
/// # Errors
/// When the file cannot be read, or neither log nor streams can be opened.
pub fn pod_log(args: impl IntoIterator<Item = String>) -> io::Result<()> {
    let Some(path) = args.into_iter().next() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a file is missing"));
    };
    let config: HelperConfig = serde_json::from_slice(&fs::read(path)?)?;
    let listener = listen(&config.io)?;
    let sink = Arc::new(Mutex::new(Sink::open(&config.log)?));
    let acceptor = Arc::clone(&sink);
    thread::spawn(move || accept(&listener, &acceptor));
    let sources = open_sources(&config)?;
    // Writable, so that no client's end is the end of the container's input.
    let _held = config
        .hold_stdin
        .then(|| OpenOptions::new().read(true).write(true).open(config.io.join("stdin")))
        .transpose()?;
    signal_ready(&config)?;
    let pumps: Vec<_> = sources
        .into_iter()
        .map(|(stream, source)| {
            let sink = Arc::clone(&sink);
            thread::spawn(move || pump(stream, source, &sink))
        })
        .collect();
    for pump in pumps {
        pump.join().map_err(|_| io::Error::other("a pump panicked"))??;
    }
    Ok(())
}

/// A socket's path may have 107 bytes at most, pod folders are longer: so bind it by the folder's
/// descriptor.
fn listen(io: &Path) -> io::Result<UnixListener> {
    let socket = io.join(feed::SOCKET);
    if let Err(error) = fs::remove_file(&socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    feed::by_short_path(&socket, |short| UnixListener::bind(short))
}

fn open_sources(config: &HelperConfig) -> io::Result<Vec<(Stream, File)>> {
    let streams = [(Stream::Stdout, "stdout", 3), (Stream::Stderr, "stderr", 4)];
    let mut sources = Vec::new();
    for (stream, fifo, descriptor) in streams {
        let path = if config.fifos {
            config.io.join(fifo)
        } else {
            PathBuf::from(format!("/proc/self/fd/{descriptor}"))
        };
        match File::open(&path) {
            Ok(file) => sources.push((stream, file)),
            // With a terminal there is no standard error.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sources)
}

/// containerd's contract for log helpers: closing descriptor 5 says that output may come.
fn signal_ready(config: &HelperConfig) -> io::Result<()> {
    if !config.fifos {
        nix::unistd::close(5)?;
    }
    Ok(())
}

fn accept(listener: &UnixListener, sink: &Mutex<Sink>) {
    let hello = feed::frame(Stream::Stdout, &[]);
    for mut reader in listener.incoming().flatten() {
        if reader.set_write_timeout(Some(READER_PATIENCE)).is_ok() {
            // In one go: whatever is written after the hello comes to this reader, too.
            let mut sink = lock(sink);
            if reader.write_all(&hello).is_ok() {
                sink.readers.push(reader);
            }
        }
    }
}

fn pump(stream: Stream, mut source: File, sink: &Mutex<Sink>) -> io::Result<()> {
    let mut cutter = LineCutter::new(stream);
    let mut buffer = vec![0; 32 * 1024];
    let mut entries = Vec::new();
    loop {
        let length = match source.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let now = Timestamp::now();
        if length == 0 {
            cutter.finish(now, &mut entries);
            return lock(sink).write(stream, &entries, &[]);
        }
        cutter.push(&buffer[..length], now, &mut entries);
        lock(sink).write(stream, &entries, &buffer[..length])?;
        entries.clear();
    }
}

fn lock(sink: &Mutex<Sink>) -> std::sync::MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sink {
    path: PathBuf,
    file: File,
    size: u64,
    readers: Vec<UnixStream>,
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, readers: Vec::new() })
    }

    fn write(&mut self, stream: Stream, entries: &[u8], raw: &[u8]) -> io::Result<()> {
        if !entries.is_empty() {
            self.file.write_all(entries)?;
            self.size += entries.len() as u64;
            if self.size > MAX_SIZE {
                self.rotate()?;
            }
        }
        if !raw.is_empty() && !self.readers.is_empty() {
            let frame = feed::frame(stream, raw);
            self.readers.retain_mut(|reader| reader.write_all(&frame).is_ok());
        }
        Ok(())
    }

    /// Puts the file aside under a name that sorts by time, and drops the oldest ones.
    fn rotate(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(Timestamp::now().strftime(".%Y%m%d-%H%M%S%.6f").to_string());
        fs::rename(&self.path, aside)?;
        let readers = std::mem::take(&mut self.readers);
        *self = Self { readers, ..Self::open(&self.path)? };
        let files = super::reader::files(&self.path)?;
        for old in files.iter().take(files.len().saturating_sub(MAX_FILES)) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_hears_all_that_is_written_after_it_has_connected() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Arc::new(Mutex::new(Sink::open(&folder.path().join("0.log")).unwrap()));
        let (listener, acceptor) = (listen(folder.path()).unwrap(), Arc::clone(&sink));
        thread::spawn(move || accept(&listener, &acceptor));
        let mut readers = Vec::new();
        for number in 0..50_u8 {
            readers.push(feed::Feed::connect(folder.path()).await.unwrap());
            lock(&sink).write(Stream::Stderr, &[], &[number]).unwrap();
        }
        for (number, mut reader) in (0..50).zip(readers) {
            let expected = feed::Chunk { stream: Stream::Stderr, bytes: vec![number] };
            assert_eq!(reader.next().await, Some(expected));
        }
    }

    #[test]
    fn a_full_log_is_put_aside_and_only_the_newest_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut sink = Sink::open(&path).unwrap();
        let entry = vec![b'x'; 6 << 20];
        for _ in 0..20 {
            sink.write(Stream::Stdout, &entry, &[]).unwrap();
        }
        let files = super::super::reader::files(&path).unwrap();
        assert_eq!(files.len(), MAX_FILES, "{files:?}");
        assert_eq!(files.last(), Some(&path));
    }
}
