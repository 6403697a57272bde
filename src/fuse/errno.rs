//! The errno of each error of the file system.

use fuser::Errno;

use crate::fs::Error;

/// Returns the errno that a program sees for an error of the file system.
pub(super) fn errno(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::NotPermitted => Errno::EPERM,
        Error::Denied => Errno::EACCES,
        Error::ReadOnly => Errno::EROFS,
        Error::Exists => Errno::EEXIST,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::Busy => Errno::EBUSY,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::Invalid => Errno::EINVAL,
        Error::TooBig => Errno::EFBIG,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::NoSpace => Errno::ENOSPC,
        Error::Stale => Errno::ESTALE,
        Error::Io => Errno::EIO,
        Error::BadHandle => Errno::EBADF,
        Error::TooManyHandles => Errno::ENFILE,
        Error::NoAttribute => Errno::ENODATA,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::CrossDevice => Errno::EXDEV,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_errno_that_its_text_names() {
        let table = [
            (Error::NotFound, libc::ENOENT),
            (Error::NotPermitted, libc::EPERM),
            (Error::Denied, libc::EACCES),
            (Error::ReadOnly, libc::EROFS),
            (Error::Exists, libc::EEXIST),
            (Error::NotEmpty, libc::ENOTEMPTY),
            (Error::Busy, libc::EBUSY),
            (Error::NotDirectory, libc::ENOTDIR),
            (Error::IsDirectory, libc::EISDIR),
            (Error::Invalid, libc::EINVAL),
            (Error::TooBig, libc::EFBIG),
            (Error::NameTooLong, libc::ENAMETOOLONG),
            (Error::NoSpace, libc::ENOSPC),
            (Error::Stale, libc::ESTALE),
            (Error::Io, libc::EIO),
            (Error::BadHandle, libc::EBADF),
            (Error::TooManyHandles, libc::ENFILE),
            (Error::NoAttribute, libc::ENODATA),
            (Error::NotSupported, libc::EOPNOTSUPP),
            (Error::CrossDevice, libc::EXDEV),
        ];
        for (error, code) in table {
            assert_eq!(errno(error).code(), code, "{error}");
            let text = std::io::Error::from_raw_os_error(code).to_string();
            assert!(
                text.to_lowercase().starts_with(&error.to_string()),
                "{error} is not what libc says: {text}"
            );
        }
    }
}
