//! A user of the database who may do only what is needed.

use crate::{
    migrations::works,
    samples::{Base, SOON, says_what_to_do, within},
};
use capomastro_core::{ErrorKind, Result, Retry};
use capomastro_store_postgres::PostgresStore;
use capomastro_tests::postgres::SUPERUSER;

/// What the message about missing rights says is to be granted.
const GRANTS: [&str; 6] = [
    "USAGE ON SCHEMA capomastro",
    "USAGE ON ALL SEQUENCES IN SCHEMA capomastro",
    "SELECT ON ALL TABLES IN SCHEMA capomastro",
    "INSERT ON ALL TABLES IN SCHEMA capomastro",
    "UPDATE ON ALL TABLES IN SCHEMA capomastro",
    "DELETE ON ALL TABLES IN SCHEMA capomastro",
];

/// A user of this base's own.
fn user(base: &Base) -> String {
    let user = format!("plain_{}", base.name);
    base.sql(&format!("CREATE ROLE {user} LOGIN"));
    user
}

async fn try_as(base: &Base, user: &str, migrate: bool) -> Result<()> {
    let url = base.url().replace(&format!("//{SUPERUSER}@"), &format!("//{user}@"));
    let opened = PostgresStore::builder(url).hints(false).migrate(migrate).open();
    works(&within(SOON, opened).await?).await
}

#[tokio::test]
async fn the_rights_that_the_message_names_are_enough_and_none_is_too_much() {
    let Some(base) = Base::new() else { return };
    let user = user(&base);
    drop(base.store().await);
    for missing in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)] {
        for (n, grant) in GRANTS.into_iter().enumerate() {
            let (verb, word) = if Some(n) == missing { ("REVOKE", "FROM") } else { ("GRANT", "TO") };
            base.sql(&format!("{verb} {grant} {word} {user}"));
        }
        let tried = try_as(&base, &user, false).await;
        let Some(missing) = missing else {
            tried.unwrap();
            try_as(&base, &user, true).await.expect("nothing is to be migrated");
            continue;
        };
        let e = tried.expect_err(GRANTS[missing]);
        assert_eq!((e.kind(), e.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{e:?}");
        says_what_to_do(&e);
        let word = GRANTS[missing].split(' ').next().unwrap();
        assert!(e.message().contains(word), "{e}");
    }
}

#[tokio::test]
async fn who_may_not_make_a_schema_is_told_and_may_use_one_that_was_made_for_them() {
    let Some(base) = Base::new() else { return };
    let user = user(&base);
    let e = try_as(&base, &user, true).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{e:?}");
    says_what_to_do(&e);
    base.sql(&format!("CREATE SCHEMA capomastro; GRANT USAGE ON SCHEMA capomastro TO {user}"));
    let e = try_as(&base, &user, true).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e:?}");
    assert_eq!(
        base.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'capomastro'::regnamespace"),
        "0"
    );
    base.sql(&format!("GRANT CREATE ON SCHEMA capomastro TO {user}"));
    try_as(&base, &user, true).await.unwrap();
}
