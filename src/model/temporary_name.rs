//! The names that tools make for themselves, which no artifact has.

/// The suffixes of documents.
const DOCUMENTS: [&[u8]; 2] = [b".hcl", b".sql"];

/// Tells whether a name is one that a tool makes for a file of its own: what has it stays in the
/// mount, whatever the directory.
///
/// The name alone must tell a writer whether closing the file is a push. So a document's suffix
/// always means a document, and a plan whose name looks like a tool's has only its name with the
/// suffix.
pub fn is_temporary(name: &[u8]) -> bool {
    // Dot files: .f.swp (vim), .f.XXXXXX (rsync), .~tmp~ (rsync --delay-updates), .#f (emacs'
    // lock), .goutputstream-XXXXXX (GLib, so gedit and GNOME's editor), .fXXXXXX (Go's renameio).
    if name.starts_with(b".") {
        return true;
    }
    if DOCUMENTS.iter().any(|suffix| name.ends_with(suffix)) {
        return false;
    }
    let inside = |middle: &[u8]| name.windows(middle.len()).any(|part| part == middle);
    // Backups of vim, emacs, gedit and Kate.
    name.ends_with(b"~")
        // What emacs saves by itself.
        || (name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#"))
        // sed -i, and perl -i (its template is XXXXXXXX, of which the C library fills in six).
        || is_made_of(name, b"sed")
        || is_made_of(name, b"XX")
        || name.ends_with(b".tmp")
        || inside(b".tmp.")
        // JetBrains' safe write: SafeFileOutputStream.java of intellij-community.
        || [&b"___jb_tmp___"[..], b"___jb_old___", b"___jb_bak___"]
            .iter()
            .any(|end| name.ends_with(end))
        || is_probe(name)
}

/// Tells whether a name is the one by which vim finds out whether it could make files here.
pub fn is_probe(name: &[u8]) -> bool {
    name == b"4913"
}

/// Tells whether a name is a prefix and what mkstemp(3) fills a template with: six letters and
/// digits.
pub fn is_made_of(name: &[u8], prefix: &[u8]) -> bool {
    let filled = name.strip_prefix(prefix);
    filled.is_some_and(|filled| filled.len() == 6 && filled.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tools_make_are_told_from_names_that_people_give() {
        for scratch in [
            ".schema.swp",
            ".schema.hcl.AbC123",
            ".goutputstream-X1Y2Z3",
            ".~tmp~",
            ".#schema",
            "schema~",
            "#schema#",
            "sedAbC123",
            "XXAbC123",
            "schema.tmp",
            "schema.tmp.1234",
            "schema___jb_tmp___",
            "schema___jb_old___",
            "schema___jb_bak___",
            "schema.hcl___jb_tmp___",
            "schema.hcl~",
            "p1.plan.hcl.tmp",
            ".p1.tmp.plan.hcl",
            "4913",
        ] {
            assert!(is_temporary(scratch.as_bytes()), "{scratch}");
        }
        for given in [
            "schema",
            "20240910173744",
            "sed",
            "sed12345",
            "sed1234567",
            "sedan-123",
            "#",
            "tmp",
            "schema.tmpl",
            "49130",
            "add-users",
            "schema.tmp.hcl",
            "x.tmp.sql",
            "v2.tmp.plan.hcl",
            "sedAbC.hcl",
        ] {
            assert!(!is_temporary(given.as_bytes()), "{given}");
        }
    }
}
