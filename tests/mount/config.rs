//! The users' only configuration file: an unchanged `atlas.hcl`, with backups in buckets.

use std::sync::Arc;

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, all_hold, flags, none_holds, schema};
use super::support::server::{Kind, Server};

/// A configuration from Atlas's documentation; `$URL` stands for the registry's line.
const CONFIG: &str = r#"
variable "suffix" {
  type    = string
  default = "schemas"
}

locals {
  endpoint = getenv("S3_ENDPOINT")
  backup_urls = [
    "s3://${getenv("BACKUP_BUCKET")}/example/${var.suffix}?region=us-east-1&endpoint=${local.endpoint}",
  ]
}

env "ci" {
  dev = getenv("DEV_DATABASE_URL")
  url = data.external.missing
  schema {
    src = "file://schema.hcl"
    repo {
      name   = "app"
      backup = local.backup_urls
    }
  }
}

env "prod" {
  url = getenv("DATABASE_URL")
  dev = getenv("DEV_DATABASE_URL")
  schema {
    # Pull desired state from Atlas Registry.
    src = "atlas://app"
    # Keep backup URLs here as well, so atlas:// reads can fall back.
    repo {
      name   = "app"
      backup = local.backup_urls
      $URL
    }
  }
}
"#;

struct Site {
    home: Home,
    server: Arc<Server>,
    bucket: String,
}

impl Site {
    fn new(url: &str) -> Self {
        let home = Home::new();
        home.file("atlas.hcl", CONFIG.replace("$URL", url));
        let server = Server::shared(Kind::Moto);
        let bucket = server.bucket();
        Self {
            home,
            server,
            bucket,
        }
    }

    fn mount(&self, more: &[&str]) -> (super::mounted::Mounted, super::program::Ran) {
        self.mount_on("mnt", more)
    }

    fn mount_on(
        &self,
        name: &str,
        more: &[&str],
    ) -> (super::mounted::Mounted, super::program::Ran) {
        let args = ["--config", "file://atlas.hcl", "--env", "prod"];
        let mut command = self.home.mounting(name, args.iter().chain(more));
        command
            .env("S3_ENDPOINT", self.server.endpoint())
            .env("BACKUP_BUCKET", &self.bucket);
        self.home.mount_by(name, &mut command)
    }

    fn backup(&self, key: &str) -> Option<Vec<u8>> {
        self.server
            .read(&self.bucket, &format!("example/schemas/{key}"))
    }
}

#[test]
fn the_users_own_file_comes_up_on_the_backups_alone_with_a_warning_for_atlas_cloud() {
    let site = Site::new("");
    let (mounted, ran) = site.mount(&[]);
    let ran = ran.says("warning: ").says("atlas");
    assert_eq!(ran.stderr.trim().lines().count(), 1, "{ran}");
    assert_eq!(mounted.ls(""), ["app"], "the configuration names it");
    let source = site.home.file("schema.hcl", schema("a"));
    run(&mut bash(
        r#"cp "$1" "$2/app/schema.hcl""#,
        [&source, mounted.dir()],
    ))
    .ok();
    assert_eq!(site.backup("app/schema"), Some(schema("a").into_bytes()));
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    assert_eq!(mounted.events("push").len(), 1);
    for event in ["push-degraded", "fallback", "breaker-open", "denied"] {
        assert!(mounted.events(event).is_empty(), "{event}");
    }
    let status = run(site.home.atlasfs(["status"]).arg(mounted.dir())).fails(3, "");
    for told in ["unsupported", "schema.repo.url", "nothing is pending"] {
        assert!(status.text().contains(told), "{status}");
    }
    assert!(!status.text().contains("outage"), "{status}");
    mounted.unmount();
    // The backup also serves after a restart, and on another machine that reaches only the backup.
    let (again, _) = site.mount(&[]);
    assert_eq!(again.read("app/schema"), schema("a").as_bytes());
    again.unmount();
    let elsewhere = site.home.path("another-machine").display().to_string();
    let (mounted, _) = site.mount_on("other", &["--state-dir", &elsewhere]);
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    let source = mounted.xattr("app/schema", "source").unwrap();
    assert!(
        source.starts_with(&format!("s3://{}/example/schemas", site.bucket)),
        "{source}"
    );
    // A push that needs the registry cannot succeed.
    mounted.unmount();
    let args = [
        "--config",
        "file://atlas.hcl",
        "--env",
        "prod",
        "--durability",
        "registry",
    ];
    let mut command = site.home.mounting("mnt", args);
    command
        .env("S3_ENDPOINT", site.server.endpoint())
        .env("BACKUP_BUCKET", &site.bucket);
    run(&mut command).fails(1, "schema.repo.url");
}

#[test]
fn with_a_registry_of_ones_own_the_same_file_is_whole() {
    let home_url = "url = \"file://${getenv(\"HOME\")}/registry\"";
    let by_file = Site::new(home_url);
    let by_flag = Site::new("");
    let url = by_flag.home.url("registry");
    for (site, more) in [(&by_file, &[][..]), (&by_flag, &["--registry", &url])] {
        site.home.folder("registry");
        let (mounted, ran) = site.mount(more);
        assert_eq!(ran.stderr, "");
        mounted.cp("app/schema.hcl", schema("whole")).ok();
        assert_eq!(
            site.backup("app/schema"),
            Some(schema("whole").into_bytes())
        );
        let registry = Store::Folder(site.home.path("registry"));
        all_hold(&[registry], "app/schema", schema("whole").as_bytes());
        run(site.home.atlasfs(["status"]).arg(mounted.dir())).ok();
        mounted.unmount();
    }
}

#[test]
fn several_repositories_with_targets_of_their_own_are_pushed_to_these_alone() {
    let home = Home::new();
    let stores = ["r1", "b1", "r2", "b2"].map(|name| Store::folder(&home, name));
    let urls = stores.each_ref().map(Store::url);
    let repo = |name: &str, url: &str, backup: &str| {
        format!(
            "env \"prod\" {{\n  schema {{\n    repo {{\n      name = \"{name}\"\n      url = \
             \"{url}\"\n      backup = [\"{backup}\"]\n    }}\n  }}\n}}\n"
        )
    };
    let config = repo("one", &urls[0], &urls[1]) + &repo("two", &urls[2], &urls[3]);
    home.file("atlas.hcl", config);
    let mounted = home.mount("mnt", ["-c", "file://atlas.hcl", "--env", "prod"]);
    assert_eq!(mounted.ls(""), ["one", "two"]);
    mounted.cp("one/schema", schema("one")).ok();
    mounted.cp("two/schema", schema("two")).ok();
    all_hold(&stores[..2], "one/schema", schema("one").as_bytes());
    all_hold(&stores[2..], "two/schema", schema("two").as_bytes());
    none_holds(&stores[2..], "one/schema");
    none_holds(&stores[..2], "two/schema");
    mounted.unmount();
    let both = home.mount("mnt", flags(&stores[..2]));
    assert_eq!(both.ls(""), ["one"]);
}

#[test]
fn a_shared_backup_gives_no_repository_to_an_emptied_registry() {
    let home = Home::new();
    let stores = ["r1", "r2", "backup"].map(|name| Store::folder(&home, name));
    let urls = stores.each_ref().map(Store::url);
    let repo = |name: &str, url: &str| {
        format!(
            "env \"prod\" {{\n  schema {{\n    repo {{\n      name = \"{name}\"\n      url = \
             \"{url}\"\n      backup = [\"{}\"]\n    }}\n  }}\n}}\n",
            urls[2]
        )
    };
    let mount = |name: &str, config: String| {
        let state = home.path(&format!("state-of-{name}"));
        home.file("atlas.hcl", config);
        let state = state.display().to_string();
        let config = [
            "-c",
            "file://atlas.hcl",
            "--env",
            "prod",
            "--state-dir",
            &state,
        ];
        home.mount(name, config)
    };
    let both = repo("one", &urls[0]) + &repo("two", &urls[1]);
    let three = both.clone() + &repo("three", &urls[1]);
    let first = mount("first", three);
    first.cp("three/schema", schema("three")).ok();
    first.unmount();
    // The configuration of the other mount does not name it; the first registry has nothing.
    let other = mount("other", both);
    assert_eq!(other.read("three/schema"), schema("three").as_bytes());
    other.cp("three/schema", schema("new")).ok();
    all_hold(&stores[1..], "three/schema", schema("new").as_bytes());
    none_holds(&stores[..1], "three/schema");
}
