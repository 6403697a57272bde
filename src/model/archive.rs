//! A migration directory as Atlas archives it: a plain tar file, `atlas.sum` first, mode 0600, and
//! no times. The same directory has the same bytes on every machine, so the archive has one hash.

use bytes::Bytes;

/// The unit of a tar file.
const BLOCK: usize = 512;

/// The longest name in a plain header. Atlas writes a longer one as PAX does.
const NAME: usize = 100;

/// The kinds of an entry.
const FILE: u8 = b'0';
const EXTENDED: u8 = b'x';

/// The archive is damaged, or another tool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no archive of a migration directory")]
pub struct InvalidArchive;

/// Writes an archive of files, in their order.
pub fn write_archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Bytes {
    let mut archive = Vec::new();
    for (name, content) in files {
        if name.len() > NAME {
            let record = record("path", name);
            let long = format!("PaxHeaders.0/{name}");
            append(&mut archive, &long, EXTENDED, record.as_bytes());
        }
        append(&mut archive, name, FILE, content);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive.into()
}

/// Makes a PAX record: its length, which counts itself, a key and a value.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let with_digits = |digits: usize| (rest.len() + digits).to_string();
    let digits = (1..).find(|digits| with_digits(*digits).len() == *digits);
    with_digits(digits.unwrap_or_default()) + &rest
}

fn append(archive: &mut Vec<u8>, name: &str, kind: u8, content: &[u8]) {
    let name = name.get(..NAME).unwrap_or(name);
    let zero = "0000000\0";
    let (mode, device) = match kind {
        EXTENDED => (zero, String::new()),
        _ => ("0000600\0", zero.repeat(2)),
    };
    let header = |sum: &str| {
        let size = content.len();
        let mut header = format!(
            "{name:\0<100}{mode}{zero}{zero}{size:011o}\0{none:011o}\0{sum}",
            none = 0,
        );
        header.push(char::from(kind));
        header += &"\0".repeat(100);
        header += "ustar\x0000";
        header += &"\0".repeat(64);
        header += &device;
        header += &"\0".repeat(BLOCK.saturating_sub(header.len()));
        header
    };
    // The sum counts its own field as blanks.
    let sum: u32 = header("        ").bytes().map(u32::from).sum();
    archive.extend_from_slice(header(&format!("{sum:06o}\0 ")).as_bytes());
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// Reads the files of an archive.
///
/// # Errors
///
/// [`InvalidArchive`].
pub fn read_archive(archive: &Bytes) -> Result<Vec<(String, Bytes)>, InvalidArchive> {
    let mut files = Vec::new();
    let mut long_name = None;
    let mut at = 0;
    loop {
        let header = archive.get(at..at + BLOCK).ok_or(InvalidArchive)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let begin = at + BLOCK;
        let size = octal(header.get(124..136)).ok_or(InvalidArchive)?;
        let end = begin.checked_add(size).ok_or(InvalidArchive)?;
        if end > archive.len() {
            return Err(InvalidArchive);
        }
        let content = archive.slice(begin..end);
        match header.get(156) {
            Some(&(FILE | 0)) => {
                let name = long_name.take().or_else(|| text(header.get(..NAME)));
                files.push((name.ok_or(InvalidArchive)?, content));
            }
            Some(&EXTENDED) => long_name = path(&content),
            _ => return Err(InvalidArchive),
        }
        at = end.next_multiple_of(BLOCK);
    }
}

fn text(field: Option<&[u8]>) -> Option<String> {
    let field = field?.split(|byte| *byte == 0).next()?;
    Some(std::str::from_utf8(field).ok()?.to_owned())
}

fn octal(field: Option<&[u8]>) -> Option<usize> {
    usize::from_str_radix(text(field)?.trim(), 8).ok()
}

/// Returns the path in PAX records.
fn path(records: &[u8]) -> Option<String> {
    let mut records = std::str::from_utf8(records).ok()?.lines();
    let path = records.find_map(|record| record.split_once(" path="));
    path.map(|(_, path)| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_that_atlas_writes() {
        let archive = write_archive([("atlas.sum", &b"h1:x\n"[..]), ("1.sql", b"")]);
        assert_eq!(archive.len(), 512 + 512 + 512 + 1024);
        let header = b"atlas.sum";
        assert_eq!(archive[..9], header[..]);
        assert_eq!(archive[9..100], [0; 91]);
        assert_eq!(
            archive[100..157],
            *b"0000600\x000000000\x000000000\x0000000000005\x0000000000000\x00011022\x00 0"
        );
        assert_eq!(archive[157..257], [0; 100]);
        assert_eq!(archive[257..265], *b"ustar\x0000");
        assert_eq!(archive[265..329], [0; 64]);
        assert_eq!(archive[329..345], *b"0000000\x000000000\x00");
        assert_eq!(archive[345..512], [0; 167]);
        assert_eq!(archive[512..517], *b"h1:x\n");
        assert_eq!(archive[517..1024], [0; 507]);
        assert_eq!(archive[1536..], [0; 1024]);
    }

    #[test]
    fn an_archive_gives_its_files_back() {
        let long = format!("{}.sql", "a".repeat(251));
        let big = vec![b'x'; 1025];
        let files = [
            ("atlas.sum", &b"h1:x\n"[..]),
            (&long, b"1"),
            ("b.sql", &big),
            ("c.sql", b""),
        ];
        let read = read_archive(&write_archive(files)).unwrap();
        let expected =
            files.map(|(name, content)| (name.to_owned(), Bytes::copy_from_slice(content)));
        assert_eq!(read, expected);
        assert_eq!(record("path", &"a".repeat(91)).len(), 101);
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let archive = write_archive([("1.sql", &b"x"[..])]);
        for len in [0, 1, 511, 512, 600, 1024] {
            let cut = archive.slice(..len);
            assert_eq!(read_archive(&cut), Err(InvalidArchive), "{len}");
        }
        for (at, byte) in [(156, b'5'), (124, b'9'), (130, 0xff), (124, b'7')] {
            let mut damaged = archive.to_vec();
            damaged[at] = byte;
            assert_eq!(read_archive(&damaged.into()), Err(InvalidArchive), "{at}");
        }
    }
}
