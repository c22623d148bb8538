//! A bad config tells everything at once; a data directory has one owner.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use windlass_tests::Site;

#[test]
fn every_problem_is_told_at_once_with_exit_64() {
    let site = Site::new(&[("a-1", "direct", "text"), ("a-1", "anchor", "digits")]);
    site.edit_config("confirmations = 2", "confirmations = 0\nsurprise = 1");
    site.edit_config("max_wait = \"300ms\"", "max_wait = \"soon\"");
    for command in ["check", "run", "deploy", "readings"] {
        let output = site.command(&[command]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        for part in ["chain", "surprise", "settlement", "a-1 is there twice", "direct settlement stores a number"] {
            assert!(text.contains(part), "{command}: {part:?} is missing in:\n{text}");
        }
    }
}

#[test]
fn check_also_looks_at_keys_and_node() {
    let mut site = Site::new(&[("a-1", "anchor", "digits")]);
    std::fs::write(site.path("submitter.key"), "not a key").unwrap();
    let output = site.command(&["check"]);
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("not a private key") && text.contains("chain: eth_chainId"), "{text}");
    std::fs::remove_file(site.path("submitter.key")).unwrap();
    let key = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    std::fs::write(site.path("submitter.key"), key).unwrap();
    site.start_node();
    assert_eq!(site.command(&["check"]).status.code(), Some(0));
}

#[test]
fn a_second_run_on_the_same_directory_is_refused() {
    let site = Site::ready(&[("a-1", "anchor", "digits")]);
    let output = site.command(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("in use by another windlass run"));
    assert!(site.readings().is_empty(), "listings work beside the live gateway");
}
