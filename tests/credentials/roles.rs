//! Roles and web identities for S3, on moto with signatures and policies enabled, and on a stub of
//! STS.

use std::net::SocketAddr;
use std::time::Duration;

use atlasfs::model::RepoName;
use atlasfs::store::{Kind, S3Location, Target};
use tokio::time::Instant;

use super::support::behind::{KEYS, all_are, location, open, put, target};
use super::support::contract::{LIMIT, id, soon};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind as Store, Server};
use super::support::sts::{Says, Sts, allow, role, user};
use super::{ARN, home, works};

/// Opens a bucket with a role from the STS stub.
fn assuming(sts: SocketAddr, bucket: &str, endpoint: String) -> Target {
    let location = S3Location {
        role: Some(ARN.into()),
        ..location(bucket, endpoint)
    };
    let sts = format!("http://{sts}");
    open(
        &location,
        &[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL_STS", &sts)],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_a_signature_and_may_do_what_its_user_may_not() {
    let moto = Server::start(Store::Moto);
    let bucket = moto.bucket();
    let keys = user(&moto, "someone", &allow(r#""sts:AssumeRole""#));
    let arn = role(&moto, "pusher", &allow(r#""s3:*""#));
    moto.demand_credentials();
    let sts = moto.endpoint();
    let env = [
        ("AWS_ACCESS_KEY_ID", &*keys.id),
        ("AWS_SECRET_ACCESS_KEY", &*keys.secret),
        ("AWS_ENDPOINT_URL_STS", &*sts),
    ];
    let plain = location(&bucket, moto.endpoint());
    all_are(&open(&plain, &env), Kind::Denied).await;
    let assumed = S3Location {
        role: Some(arn.clone()),
        ..plain.clone()
    };
    works(&open(&assumed, &env)).await;
    let wrong = [("AWS_SECRET_ACCESS_KEY", "another"), env[0], env[2]];
    let failure = open(&assumed, &wrong).probe(soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Denied);
    assert!(
        failure.reason.contains("SignatureDoesNotMatch"),
        "{failure}"
    );
    assert!(
        failure
            .reason
            .contains(&format!("cannot assume {arn} at 127.0.0.1:")),
        "{failure}"
    );

    // The same role by a profile, as the AWS tools configure it.
    let files = home(
        &format!("[profile deploy]\nrole_arn = {arn}\nsource_profile = base\nregion = us-east-1\n"),
        &format!(
            "[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            keys.id, keys.secret
        ),
    );
    let files = files.path().to_str().unwrap();
    let env = [("HOME", files), ("AWS_ENDPOINT_URL_STS", &*sts)];
    let by_profile = S3Location {
        profile: Some("deploy".into()),
        ..plain.clone()
    };
    works(&open(&by_profile, &env)).await;
    works(&open(
        &plain,
        &[&env[..], &[("AWS_PROFILE", "deploy")]].concat(),
    ))
    .await;
    let base = open(&plain, &[&env[..], &[("AWS_PROFILE", "base")]].concat());
    all_are(&base, Kind::Denied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parameters_of_a_profiles_role_are_sent_to_sts() {
    let (server, sts) = (Server::shared(Store::Moto), Sts::start());
    let files = home(
        &format!(
            "[profile p]\nrole_arn = {ARN}\ncredential_source = Environment\nexternal_id = a/b\n\
             role_session_name = me@example\nduration_seconds = 900\nservices = local\n\
             [services local]\nsts =\n  endpoint_url = {}\n",
            sts.endpoint()
        ),
        "",
    );
    let files = files.path().to_str().unwrap();
    let location = S3Location {
        profile: Some("p".into()),
        ..location(&server.bucket(), server.endpoint())
    };
    works(&open(&location, &[&KEYS[..], &[("HOME", files)]].concat())).await;
    let [(form, signed)] = &sts.asked()[..] else {
        panic!("one request");
    };
    assert!(signed);
    assert_eq!(
        form,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2F\
         pusher&RoleSessionName=me%40example&ExternalId=a%2Fb&DurationSeconds=900"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identitys_token_is_read_anew_for_each_session_and_is_never_shown() {
    let (server, sts) = (Server::shared(Store::Moto), Sts::start());
    let proxy = Proxy::start(server.addr());
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret-1\n").unwrap();
    let (endpoint, path) = (sts.endpoint(), token.path().to_str().unwrap());
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path),
        ("AWS_ROLE_ARN", ARN),
        ("AWS_ENDPOINT_URL_STS", &*endpoint),
    ];
    let bucket = server.bucket();
    let target = target(&bucket, proxy.endpoint(), &env);
    sts.set(Says::Keys(5));
    works(&target).await;
    let sent = proxy.requests();
    assert!(
        sent[0]
            .headers
            .contains("x-amz-security-token: the-token\n"),
        "{sent:?}"
    );
    let asked = sts.asked();
    assert!(
        asked[0].0.contains("Action=AssumeRoleWithWebIdentity"),
        "{asked:?}"
    );
    assert!(
        asked[0].0.ends_with("WebIdentityToken=s3cret-1"),
        "{asked:?}"
    );
    assert!(!asked[0].1, "it is signed");
    std::fs::write(token.path(), "s3cret-2").unwrap();
    works(&target).await;
    assert!(sts.asked()[0].0.ends_with("WebIdentityToken=s3cret-2"));
    for (content, expected) in [(Some(""), "is empty"), (None, "can't be read")] {
        match content {
            Some(content) => std::fs::write(token.path(), content).unwrap(),
            None => std::fs::remove_file(token.path()).unwrap(),
        }
        all_are(&target, Kind::Denied).await;
        let failure = target.probe(soon()).await.unwrap_err();
        assert!(failure.reason.contains(expected), "{failure}");
        assert!(failure.reason.contains(path), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_sts_differs_from_one_of_the_store_and_ends_by_itself() {
    let (server, sts) = (Server::shared(Store::S3s), Sts::start());
    let bucket = server.bucket();
    let target = assuming(sts.addr(), &bucket, server.endpoint());
    let at = sts.addr();
    for (says, kind, expected) in [
        (
            Says::Refuses(403, "AccessDenied"),
            Kind::Denied,
            "403 AccessDenied: not you, \u{2026}",
        ),
        (
            Says::Refuses(400, "ValidationError"),
            Kind::Denied,
            "400 ValidationError",
        ),
        (
            Says::Refuses(403, "ExpiredToken"),
            Kind::Denied,
            "get new credentials",
        ),
        (
            Says::Refuses(403, "InvalidClientTokenId"),
            Kind::Denied,
            "does not know this access key",
        ),
        (
            Says::Refuses(500, "InternalFailure"),
            Kind::Busy,
            "500 InternalFailure",
        ),
        (
            Says::Refuses(429, "Throttling"),
            Kind::Busy,
            "429 Throttling",
        ),
        (
            Says::Garbage("<html>"),
            Kind::Unreachable,
            "its answer holds no credentials",
        ),
        (
            Says::Garbage(""),
            Kind::Unreachable,
            "its answer holds no credentials",
        ),
        (
            Says::Keys(-3600),
            Kind::Denied,
            "correct this machine's clock",
        ),
    ] {
        sts.set(says);
        all_are(&target, kind).await;
        let failure = target.probe(soon()).await.unwrap_err();
        let told = format!("can't get credentials: cannot assume {ARN} at {at}: ");
        assert!(failure.reason.contains(&told), "{says:?}: {failure}");
        assert!(failure.reason.contains(expected), "{says:?}: {failure}");
    }
    sts.set(Says::Keys(3600));
    // s3s-fs doesn't know the token, and checks the signature alone.
    put(&target, "app/schema", "x", 1).await.unwrap();
    drop(sts);
    let nobody = assuming(at, &bucket, server.endpoint());
    all_are(&nobody, Kind::Unreachable).await;
    let failure = nobody.probe(soon()).await.unwrap_err();
    assert!(
        failure.reason.contains(&format!("nothing listens at {at}")),
        "{failure}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_sts_delays_no_operation_beyond_its_deadline() {
    let (server, sts) = (Server::shared(Store::Moto), Sts::start());
    sts.set(Says::Slowly(Duration::from_secs(60)));
    let bucket = server.bucket();
    let target = assuming(sts.addr(), &bucket, server.endpoint());
    let begun = Instant::now();
    for _ in 0..3 {
        let failure = target
            .probe(Instant::now() + Duration::from_millis(300))
            .await;
        let failure = failure.unwrap_err();
        assert_eq!(failure.kind, Kind::Unreachable);
        let hangs = format!("STS at {} does not answer", sts.addr());
        assert!(failure.reason.ends_with(&hangs), "{failure}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it waits for the answer"
    );
    let failure = target.probe(soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(
        failure
            .reason
            .contains("can't get credentials: STS at 127.0.0.1:"),
        "{failure}"
    );
    sts.set(Says::Keys(3600));
    works(&target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_operations_share_one_request_for_a_role_until_shortly_before_its_end() {
    let (server, sts) = (Server::shared(Store::Moto), Sts::start());
    let bucket = server.bucket();
    let target = assuming(sts.addr(), &bucket, server.endpoint());
    let puts = (0..50).map(|number| {
        let target = target.clone();
        async move { put(&target, &format!("app/plans/p{number}"), "x", 1).await }
    });
    for done in futures::future::join_all(puts).await {
        done.unwrap();
    }
    assert_eq!(sts.asked().len(), 1);
    works(&target).await;
    assert!(sts.asked().is_empty());
    // Keys count as expired ten seconds before their end.
    sts.set(Says::Keys(9));
    let target = assuming(sts.addr(), &bucket, server.endpoint());
    works(&target).await;
    assert_eq!(sts.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_store_takes_no_longer_is_replaced_and_the_operation_goes_on() {
    // s3s-fs checks the signature of each request.
    let (server, sts) = (Server::shared(Store::S3s), Sts::start());
    let proxy = Proxy::start(server.addr());
    let bucket = server.bucket();
    let target = assuming(sts.addr(), &bucket, proxy.endpoint());
    let (schema, app) = (id("app/schema"), RepoName::parse("app").unwrap());
    sts.set(Says::Session("session-0"));
    works(&target).await;
    let refusals = [
        ("session-0", 400, "ExpiredToken"),
        ("session-1", 403, "InvalidAccessKeyId"),
        ("session-2", 400, "InvalidToken"),
        ("session-3", 400, "ExpiredToken"),
        ("session-4", 400, "TokenRefreshRequired"),
    ];
    let next = [
        "session-1",
        "session-2",
        "session-3",
        "session-4",
        "session-5",
    ];
    for (turn, ((old, status, code), new)) in refusals.into_iter().zip(next).enumerate() {
        sts.asked();
        sts.set(Says::Session(new));
        proxy.set(Fault::Over(old, status, code));
        match turn {
            0 => put(&target, "app/schema", "x", 1).await.map(drop),
            1 => target.get(&schema, LIMIT, soon()).await.map(drop),
            2 => target.list(&app, soon()).await.map(drop),
            // The reply to HEAD has no code.
            3 => target.head(&schema, soon()).await.map(drop),
            _ => target.delete(&schema, soon()).await,
        }
        .unwrap();
        assert_eq!(sts.asked().len(), 1, "{code}");
        works(&target).await;
        assert!(sts.asked().is_empty(), "{code}");
    }
    // Without new credentials, it is unknown whether the request would have been allowed.
    proxy.set(Fault::Over("session-5", 400, "ExpiredToken"));
    sts.set(Says::Refuses(500, "InternalFailure"));
    let failure = target.probe(soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Busy, "{failure}");
    // If the store refuses the new token too, accept that, and send no more requests to STS.
    sts.asked();
    sts.set(Says::Session("session-6"));
    proxy.set(Fault::Status(400, Some("ExpiredToken")));
    all_are(&target, Kind::Denied).await;
    assert_eq!(sts.asked().len(), 1);
}
