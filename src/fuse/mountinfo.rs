//! The list of mounts, from /proc/self/mountinfo.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type of every atlasfs mount.
pub(super) const FSTYPE: &str = "fuse.atlasfs";

/// The device number of a mounted file system. The kernel reuses it after the unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The major number; 0 for a file system without a disk.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Its number.
    pub id: u64,
    /// The number of the mount below it.
    pub parent: u64,
    /// Its device.
    pub device: Device,
    /// The mount point.
    pub point: PathBuf,
    /// Its type, as `mount` shows it.
    pub fstype: String,
    /// Its source, as `mount` shows it.
    pub source: OsString,
}

impl MountEntry {
    /// Returns whether this is a mount of atlasfs.
    pub fn is_atlasfs(&self) -> bool {
        self.fstype == FSTYPE
    }
}

/// Returns every mount that this process sees.
pub(super) fn read() -> io::Result<Vec<MountEntry>> {
    std::fs::read("/proc/self/mountinfo").map(|bytes| parse(&bytes))
}

/// Parses a mountinfo; unreadable lines are skipped.
pub(super) fn parse(bytes: &[u8]) -> Vec<MountEntry> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let _root = fields.next()?;
    let point = PathBuf::from(unescape(fields.next()?));
    let _options = fields.next()?;
    // Any number of optional fields ends at a lone hyphen.
    fields.by_ref().find(|field| *field == b"-")?;
    let fstype = unescape(fields.next()?).into_string().ok()?;
    let source = unescape(fields.next().unwrap_or_default());
    Some(MountEntry {
        id,
        parent,
        device: Device {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        },
        point,
        fstype,
        source,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's escapes: `\` and three octal digits are one byte.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// Returns the topmost mount on exactly this path.
pub(super) fn topmost(entries: &[MountEntry], point: &Path) -> Option<MountEntry> {
    let here: Vec<_> = entries.iter().filter(|e| e.point == point).collect();
    here.iter()
        .rev()
        .find(|entry| here.iter().all(|other| other.parent != entry.id))
        .map(|entry| (*entry).clone())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const SAMPLE: &[u8] = b"\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 0:33 / /mnt/a\\040b\\134c\\011d\\012e rw,nosuid,nodev - fuse.atlasfs s3://bucket/pre\\040fix rw,user_id=0
37 22 0:34 / /mnt/x rw shared:2 master:3 - fuse.other src rw
38 37 0:35 / /mnt/x rw - fuse.atlasfs src rw
40 22 0:36 / /mnt/\xff\xfe rw - tmpfs tmpfs rw
garbage
41 22 zero / /mnt/y rw - tmpfs tmpfs rw
";

    #[test]
    fn octal_escapes_in_mount_points_are_undone() {
        let entries = parse(SAMPLE);
        let entry = entries.iter().find(|e| e.id == 36).unwrap();
        assert_eq!(entry.point.as_os_str().as_bytes(), b"/mnt/a b\\c\td\ne");
        assert_eq!(entry.source, "s3://bucket/pre fix");
        assert!(entry.is_atlasfs());
        assert_eq!(
            entry.device,
            Device {
                major: 0,
                minor: 33
            }
        );
    }

    #[test]
    fn any_bytes_are_a_path_and_bad_lines_are_skipped() {
        let entries = parse(SAMPLE);
        assert_eq!(entries.len(), 5);
        assert_eq!(entries[4].point.as_os_str().as_bytes(), b"/mnt/\xff\xfe");
        assert_eq!(unescape(b"\\04").as_bytes(), b"\\04");
        assert_eq!(unescape(b"\\777").as_bytes(), b"\\777");
        assert_eq!(unescape(b"\\").as_bytes(), b"\\");
        assert_eq!(unescape(b"\\377").as_bytes(), b"\xff");
        for seed in 0..2000_u32 {
            let noise: Vec<u8> = (0..seed % 97)
                .map(|at| (seed.wrapping_mul(2_654_435_761).wrapping_add(at * 40_503) >> 13) as u8)
                .collect();
            parse(&noise);
        }
    }

    #[test]
    fn the_top_mount_of_a_path_counts() {
        let entries = parse(SAMPLE);
        assert_eq!(topmost(&entries, Path::new("/mnt/x")).unwrap().id, 38);
        let reversed: Vec<_> = entries.into_iter().rev().collect();
        assert_eq!(topmost(&reversed, Path::new("/mnt/x")).unwrap().id, 38);
        assert_eq!(topmost(&reversed, Path::new("/mnt/none")), None);
    }

    #[test]
    fn this_machine_has_a_root_mount() {
        assert!(topmost(&read().unwrap(), Path::new("/")).is_some());
    }
}
