//! Documents that declare something, and the guess of their language.

use super::super::{Format, PlanName, Rejection, check_plan, check_schema, guess_format};

const HCL: &[u8] = b"schema \"public\" {}\n";
const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

#[test]
fn a_document_without_statements_is_empty_in_every_language() {
    let utf_16 = |text: &str, mark: &[u8]| {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [mark, &units.collect::<Vec<_>>()].concat()
    };
    for nothing in [
        &b"\xef\xbb\xbf"[..],
        b"\xef\xbb\xbf \n",
        b"\0",
        &[0; 4096],
        "\u{a0}\u{2003}\u{3000}\u{feff}\u{200b}\u{85}".as_bytes(),
        b";\n;;",
        b"# c",
        b"# c\n#d\r\n",
        b"// c\n",
        b"-- c\n--d",
        b"--\r\n\r",
        b"/* c */",
        b"/* /* c */ */",
        b"/* a /* b /* c */ */ DROP TABLE t; */ ; -- d",
        b"/*/ c */",
        b"/**/ /***/",
        b"/*! */",
        b"/*!50001 ; */;",
        &utf_16(" \n\t", b"\xff\xfe"),
        &utf_16(" \n", b""),
        &utf_16("\n", b""),
        &utf_16("-- c\n", b"\xff\xfe"),
        b"\xfe\xff\0 \0\n",
    ] {
        for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
            for current in [None, Some(Format::Hcl), Some(Format::Sql)] {
                let checked = check_schema(nothing, suffix, current);
                assert_eq!(checked, Err(Rejection::Empty), "{nothing:?} {suffix:?}");
            }
        }
        let name = PlanName::parse("p1").unwrap();
        assert_eq!(
            check_plan(nothing, &name),
            Err(Rejection::Empty),
            "{nothing:?}"
        );
    }
}

#[test]
fn comments_that_a_database_executes_are_statements() {
    for something in [
        "/*!40101 SET NAMES utf8 */;",
        "/*! CREATE TABLE t (c int) */",
        "/*M!100100 SET x = 1 */;",
        "/* a /* b */ CREATE TABLE t (c int);",
        "# c\nCREATE TABLE t (c int);",
        "/* c */ SELECT 1",
        "-- c\n;x",
    ] {
        for suffix in [None, Some(Format::Sql)] {
            let checked = check_schema(something.as_bytes(), suffix, None);
            assert_eq!(checked, Ok(Format::Sql), "{something}");
        }
    }
    // A comment of HCL may contain the start of a nested comment.
    let heading = b"/* a /* b */\nschema \"public\" {}\n/* */\n";
    assert_eq!(check_schema(heading, None, None), Ok(Format::Hcl));
}

#[test]
fn a_document_of_atlas_imports_alone_is_refused_by_name() {
    for imports in [
        "-- atlas:import tables/users.sql\n-- atlas:import tables/orders.sql\n",
        "\u{feff}-- a heading\n\n--atlas:import users.sql",
        "# atlas:import users.sql\n;",
    ] {
        for suffix in [None, Some(Format::Sql)] {
            let rejection = check_schema(imports.as_bytes(), suffix, None).unwrap_err();
            assert_eq!(rejection, Rejection::OnlyImports);
            assert!(
                rejection
                    .to_string()
                    .contains("push the whole schema in one file")
            );
        }
    }
    let with_a_table = b"-- atlas:import a.sql\nCREATE TABLE t (c int);\n";
    assert_eq!(check_schema(with_a_table, None, None), Ok(Format::Sql));
}

#[test]
fn text_that_nobody_can_see_is_empty() {
    let wide = |text: &str| -> Vec<u8> {
        let units = text.chars().map(|char| u32::from(char).to_be_bytes());
        units.flatten().collect()
    };
    for content in [
        "\u{202a}\u{202c}\n".as_bytes(),
        "\u{2060}\u{2061}\u{3164}\u{2800}".as_bytes(),
        "\u{fe0f}\u{e0001} # c".as_bytes(),
        b"\xa0\r\n\x80-- c\n",
        &wide("// c\n"),
        &wide("\u{feff}/* c */"),
    ] {
        for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
            let checked = check_schema(content, suffix, None);
            assert_eq!(checked, Err(Rejection::Empty), "{content:?}");
        }
        assert_eq!(
            check_schema(&[content, b"\nx"].concat(), Some(Format::Sql), None),
            Ok(Format::Sql)
        );
    }
    let little = b"\xff\xfe\0\0/\0\0\0/\0\0\0c\0\0\0";
    assert_eq!(check_schema(little, None, None), Err(Rejection::Empty));
}

#[test]
fn utf_16_is_refused_by_name() {
    let little = |text: &[u8]| text.iter().flat_map(|&byte| [byte, 0]).collect::<Vec<_>>();
    let big = |text: &[u8]| text.iter().flat_map(|&byte| [0, byte]).collect::<Vec<_>>();
    for text in [HCL, SQL] {
        for content in [
            little(text),
            big(text),
            [b"\xff\xfe", &little(text)[..]].concat(),
            [b"\xfe\xff", &big(text)[..]].concat(),
        ] {
            for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
                let rejection = check_schema(&content, suffix, None).unwrap_err();
                assert_eq!(rejection, Rejection::Utf16);
                assert!(
                    rejection
                        .to_string()
                        .contains("is UTF-16; save it as UTF-8")
                );
            }
            let rejection = check_plan(&content, &PlanName::parse("p1").unwrap());
            assert_eq!(rejection, Err(Rejection::Utf16));
        }
    }
}

#[test]
fn text_that_looks_like_hcl_does_not_become_sql() {
    for broken in [
        "table \"users\" {\n  schema = schema.public\n",
        "table \"users\" {\n  column id\" {\n  }\n}\n",
        "table \"users {\n}\n",
        "table \"a\" \"b\" {\n  x = \n}\n",
        "table users {\n  schema = \n}\n",
        "table \"users\"\n{\n}\n",
        "table 'users' {\n}\n",
        "# c\n\n/* d */ -- e\nschema \"public\" {\n",
        "\u{feff}schema \"public\" {\n",
        "schema \"public\" {}\n}\n",
        "locals {\n  a = [1,\n}\n",
        "locals {\n  nested {\n    a = ;\n",
        "x = \"a\nb\"\n",
        "x = <<E\nno end",
        "schema \"public\" {}\nCREATE TABLE t (c int);\n",
    ] {
        for current in [None, Some(Format::Sql)] {
            let rejection = check_schema(broken.as_bytes(), None, current).unwrap_err();
            let message = rejection.to_string();
            assert!(
                message.starts_with("not valid HCL: line "),
                "{broken:?}: {message}"
            );
            assert!(message.contains("schema.sql"), "{message}");
        }
        assert_eq!(guess_format(broken.as_bytes()), Format::Hcl);
        let checked = check_schema(broken.as_bytes(), Some(Format::Sql), None);
        assert_eq!(checked, Ok(Format::Sql));
    }
}

#[test]
fn sql_of_no_dialect_is_taken_for_hcl() {
    for sql in [
        "CREATE TABLE \"users\" (\"id\" int);",
        "CREATE TABLE users (id int) ENGINE = InnoDB;",
        "SET search_path = public;",
        "SET x = '{';",
        "PRAGMA foreign_keys = ON;",
        "USE \"db\";\nGO\n",
        "TABLE \"users\";",
        "CALL \"p\"({d '2020-01-01'});",
        "SELECT {d '2020-01-01'};",
        "SELECT {fn now()};",
        "{call p}",
        "SELECT {a:UInt8};",
        "DROP TABLE {t:Identifier};",
        "SELECT {\n  a:UInt8 };",
        "SELECT {'a': 1};",
        "SELECT {};",
        "INSERT INTO \"t\" FORMAT JSONEachRow {\"a\": 1}",
        "UPDATE \"t\" SET \"a\" = 1;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE js AS $$ {\n a = 1 } $$;",
        "CREATE FUNCTION f() RETURN x = 1;",
        "DO $$ BEGIN x := 1; END $$;",
        "DO 'BEGIN {\n} END';",
        "BEGIN\n  x := 1;\nEND;",
        "`a` = 1",
        "@x = 1",
        "DELIMITER //\nCREATE PROCEDURE p() BEGIN END//\n",
        "x == 1",
        "[[",
        "=",
        "{",
        "\"a\" {",
    ] {
        for suffix in [None, Some(Format::Sql)] {
            assert_eq!(
                check_schema(sql.as_bytes(), suffix, None),
                Ok(Format::Sql),
                "{sql}"
            );
        }
    }
}
