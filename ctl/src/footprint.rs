//! Gives memory back that is needed for a moment only.
//!
//! Lists of thousands of objects are read, decoded and dropped at the start; a look at all of the
//! kernel holds it twice for a moment. The allocator keeps what it once had, so it is told to let
//! go whenever the process has grown. Pages of the program are mapped that run once, and those
//! around them; what is dropped here is read again from the program's file when it runs again.
//! Deliberately not here: how much memory there may be.

#![expect(unsafe_code, reason = "madvise and malloc_trim have no safe twin")]

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long after the first programming: what follows it (listeners, events) starts by then.
const SETTLED: Duration = Duration::from_secs(1);
/// How often netd is asked whether it serves.
const ASK: Duration = Duration::from_millis(500);
/// How often the process is looked at afterwards.
const LOOK: Duration = Duration::from_secs(2);
/// Growth by less than this is not worth the search for memory to give back: one that finds little
/// takes about a millisecond, in which nobody else allocates.
const GROWN: usize = 4 << 20;

/// Gives memory back as soon as netd serves, and whenever it has grown afterwards; until `stop`.
pub(crate) async fn keep_small(control: netd::Control, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(control) => {}
    }
}

async fn follow(control: netd::Control) {
    loop {
        match control.status().await {
            Ok(status) if status.engine.is_some() => break,
            Ok(_) => tokio::time::sleep(ASK).await,
            Err(_) => return,
        }
    }
    tokio::time::sleep(SETTLED).await;
    // Neither step may hold up a thread that others wait for.
    let mut least = tokio::task::spawn_blocking(shrink).await.unwrap_or_default();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = own_memory();
        least = match now > least + GROWN {
            true => tokio::task::spawn_blocking(trim).await.unwrap_or(now),
            false => least.min(now),
        };
    }
}

/// Makes the allocator give back what is free. Returns the bytes of memory that are left.
fn trim() -> usize {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
    own_memory()
}

/// Bytes of memory that hold no file.
fn own_memory() -> usize {
    own_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// `status` is the text of proc_pid_status(5).
fn own_bytes(status: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Gives back all that only the start needed. Returns the bytes of memory that are left.
fn shrink() -> usize {
    let left = trim();
    let (Ok(program), Ok(smaps)) =
        (std::env::current_exe(), std::fs::read_to_string("/proc/self/smaps"))
    else {
        return left;
    };
    for range in pages_of_file(&smaps, &program) {
        let address = range.start as *mut libc::c_void;
        // SAFETY: the pages are the file's own, unchanged and read-only: the next access maps the
        // same bytes again (madvise(2), MADV_DONTNEED).
        unsafe {
            libc::madvise(address, range.len(), libc::MADV_DONTNEED);
        }
    }
    left
}

/// The mappings of a program's file that hold nothing but what the file holds: not writable, and
/// no page of them was ever changed (by relocation, say). `smaps` is the text of proc_pid_smaps(5).
fn pages_of_file(smaps: &str, program: &Path) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut mapping: Option<Range<usize>> = None;
    for line in smaps.lines() {
        if let Some((range, read_only)) = header(line, program) {
            mapping = read_only.then_some(range);
        } else if line.starts_with("Anonymous:") && line.split_whitespace().nth(1) == Some("0") {
            out.extend(mapping.take());
        }
    }
    out
}

/// The first line of a mapping: its addresses, and whether it is the program's and not writable.
fn header(line: &str, program: &Path) -> Option<(Range<usize>, bool)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let may_write = words.next()?.contains('w');
    let file = words.nth(3);
    Some((start..end, !may_write && file.is_some_and(|file| Path::new(file) == program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-2000 r--p 00000000 fe:00 7      /usr/bin/minictl
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
2000-9000 r-xp 00001000 fe:00 7      /usr/bin/minictl
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 7      /usr/bin/minictl
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 7      /usr/bin/minictl
Anonymous:             0 kB
b000-c000 r-xp 00000000 fe:00 9      /usr/lib/libc.so.6
Anonymous:             0 kB
c000-d000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_unchanged_read_only_pages_of_the_program_are_given_back() {
        let pages = pages_of_file(SMAPS, Path::new("/usr/bin/minictl"));
        assert_eq!(pages, [0x1000..0x2000, 0x2000..0x9000]);
    }

    #[test]
    fn memory_of_files_is_not_the_processs_own() {
        assert_eq!(
            own_bytes("VmRSS:\t 9000 kB\nRssAnon:\t    400 kB\nRssFile:\t 8600 kB\n"),
            409_600
        );
        assert_eq!(own_bytes(""), 0);
        assert!(own_memory() > 0);
    }

    #[test]
    fn what_was_freed_is_given_back() {
        // Small enough that the allocator would keep it, with a piece in use at the end of it.
        let mut pieces: Vec<Vec<u8>> = (0..4096).map(|n| vec![1; 4000 + n % 2]).collect();
        let before = own_memory();
        let last = pieces.pop();
        drop(pieces);
        let after = trim();
        assert!(before > after + (8 << 20), "{before} bytes before, {after} after");
        assert_eq!(last.map(|piece| piece.len()), Some(4001));
    }

    #[test]
    fn a_process_that_shrank_goes_on() {
        let list: Vec<String> = (0..1000).map(|n| format!("object {n}")).collect();
        shrink();
        assert_eq!(list.iter().map(String::len).sum::<usize>(), 9890);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let pages = pages_of_file(&smaps, &std::env::current_exe().unwrap());
        assert!(!pages.is_empty(), "{smaps}");
    }
}
