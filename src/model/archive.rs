//! A migration directory as Atlas archives it: a plain tar file, `atlas.sum` first, mode 0600, and
//! no times. The same directory has the same bytes on every machine, so the archive has one hash.

use std::io::{self, Read};

use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};

/// The longest name in a plain header. Atlas writes a longer one as PAX does.
const MAX_PLAIN_NAME: usize = 100;

/// The archive is damaged, or another tool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no archive of a migration directory")]
pub struct InvalidArchive;

/// Writes an archive of files, in their order.
///
/// # Errors
///
/// Those of the library; writing to memory has none.
pub fn write_archive<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> io::Result<Bytes> {
    let mut archive = Builder::new(Vec::new());
    for (name, content) in files {
        if name.len() > MAX_PLAIN_NAME {
            archive.append_pax_extensions([("path", name.as_bytes())])?;
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        for (to, byte) in header.as_old_mut().name.iter_mut().zip(name.bytes()) {
            *to = byte;
        }
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(0)?;
        header.set_device_minor(0)?;
        header.set_cksum();
        // The same number, as Atlas's writer formats it.
        let sum = format!("{:06o}\0 ", header.cksum()?);
        header.as_old_mut().cksum.copy_from_slice(sum.as_bytes());
        archive.append(&header, content)?;
    }
    Ok(archive.into_inner()?.into())
}

/// Reads the files of an archive.
///
/// # Errors
///
/// [`InvalidArchive`].
pub fn read_archive(archive: &Bytes) -> Result<Vec<(String, Bytes)>, InvalidArchive> {
    let mut reader = Archive::new(&archive[..]);
    let mut files = Vec::new();
    for entry in reader.entries().map_err(|_| InvalidArchive)? {
        let mut entry = entry.map_err(|_| InvalidArchive)?;
        let name = entry
            .path()
            .ok()
            .and_then(|path| Some(path.to_str()?.to_owned()));
        let name = name.filter(|_| entry.header().entry_type().is_file());
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .map_err(|_| InvalidArchive)?;
        files.push((name.ok_or(InvalidArchive)?, content.into()));
    }
    match files.is_empty() {
        true => Err(InvalidArchive),
        false => Ok(files),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_that_atlas_writes() {
        let archive = write_archive([("atlas.sum", &b"h1:x\n"[..]), ("1.sql", b"")]).unwrap();
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
        let read = read_archive(&write_archive(files).unwrap()).unwrap();
        let expected =
            files.map(|(name, content)| (name.to_owned(), Bytes::copy_from_slice(content)));
        assert_eq!(read, expected);
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let archive = write_archive([("1.sql", &b"x"[..])]).unwrap();
        for len in [0, 1, 511, 512, 600] {
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
