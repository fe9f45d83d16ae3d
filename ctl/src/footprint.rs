//! Gives memory back that only the start of a process needed.
//!
//! Lists of thousands of objects are read, decoded and dropped once; pages of the program are mapped
//! that run once, and those around them. What is dropped here is read again from the program's file
//! when it runs again. Deliberately not here: how much memory there may be.

#![expect(unsafe_code, reason = "madvise and malloc_trim have no safe twin")]

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// How long after the first programming: what follows it (listeners, events) starts by then.
const SETTLED: Duration = Duration::from_secs(1);
/// How often netd is asked whether it serves.
const ASK: Duration = Duration::from_millis(500);

/// Gives memory back as soon as netd serves; ends with netd.
pub(crate) async fn shrink_once_served(control: netd::Control) {
    while let Ok(status) = control.status().await {
        if status.engine.is_some() {
            tokio::time::sleep(SETTLED).await;
            return shrink();
        }
        tokio::time::sleep(ASK).await;
    }
}

fn shrink() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
    let (Ok(program), Ok(smaps)) =
        (std::env::current_exe(), std::fs::read_to_string("/proc/self/smaps"))
    else {
        return;
    };
    for range in pages_of_file(&smaps, &program) {
        let address = range.start as *mut libc::c_void;
        // SAFETY: the pages are the file's own, unchanged and read-only: the next access maps the
        // same bytes again (madvise(2), MADV_DONTNEED).
        unsafe {
            libc::madvise(address, range.len(), libc::MADV_DONTNEED);
        }
    }
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
    fn a_process_that_shrank_goes_on() {
        let list: Vec<String> = (0..1000).map(|n| format!("object {n}")).collect();
        shrink();
        assert_eq!(list.iter().map(String::len).sum::<usize>(), 9890);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let pages = pages_of_file(&smaps, &std::env::current_exe().unwrap());
        assert!(!pages.is_empty(), "{smaps}");
    }
}
