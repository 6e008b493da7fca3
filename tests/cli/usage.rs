//! Help, version, explain, resync without `--yes`, and command lines that are wrong.

use crate::program::Place;

const GOOD: &str = "version: 1\nsource: {url: 'postgres://u@h/shop'}\nsink: {uri: 'file:///lake'}\n";

#[test]
fn help_names_the_commands_and_hides_the_developers_own() {
    let help = Place::new().run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for word in [
        "run",
        "validate",
        "setup",
        "status",
        "resync",
        "slot",
        "teardown",
        "explain",
        "version",
        "Exit codes",
    ] {
        assert!(help.stdout.contains(word), "{word}\n{}", help.stdout);
    }
    assert!(!help.stdout.contains("bench"), "{}", help.stdout);
    let run = Place::new().run(&["run", "--help"]);
    for flag in [
        "--until-caught-up",
        "--until-lsn",
        "--snapshot-only",
        "--no-snapshot",
        "--slot",
        "--publication",
        "--table",
        "--config",
        "--output",
        "--quiet",
        "--verbose",
        "--log-format",
        "--color",
    ] {
        assert!(run.stdout.contains(flag), "{flag}\n{}", run.stdout);
    }
}

#[test]
fn the_version_has_two_forms() {
    let version = env!("CARGO_PKG_VERSION");
    for arguments in [&["version"][..], &["--version"]] {
        let text = Place::new().run(arguments);
        assert_eq!((text.code, text.stdout), (Some(0), format!("strandline {version}\n")));
    }
    for arguments in [&["version", "-o", "json"][..], &["-o", "json", "version"]] {
        assert_eq!(Place::new().run(arguments).json()["version"], version);
    }
}

#[test]
fn wrong_use_exits_with_2() {
    let place = Place::new();
    for arguments in [
        &["nonsense"][..],
        &[],
        &["run", "--no-such-flag"],
        &["run", "--until-lsn", "12"],
        &["run", "--until-lsn", "0/1", "--until-caught-up"],
        &["run", "--snapshot-only", "--no-snapshot"],
        &["run", "postgres://u@h/d"],
        &["validate", "-c", "a", "b"],
        &["resync"],
        &["bench", "merge", "--table", "t", "f"],
    ] {
        let wrong = place.run(arguments);
        assert_eq!(wrong.code, Some(2), "{arguments:?} {wrong:?}");
        assert_eq!(wrong.stdout, "", "{arguments:?}");
        assert!(!wrong.stderr.is_empty(), "{arguments:?}");
    }
    let json = place.run(&["run", "-o", "json", "--no-such-flag"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(2), ""));
    assert_eq!(json.json()["error"]["code"], "CF005");
}

#[test]
fn a_password_in_a_wrong_command_line_is_not_repeated() {
    let place = Place::new();
    let url = "postgres://user:hunter2@h/d";
    for arguments in [
        &[url][..],
        &[url, "file:///lake"],
        &["validate", "a", url],
        &["run", url, "file:///lake", url],
        &["run", "--password=hunter2"],
        &["run", "postgres://user:hunter2@h:port/d", "file:///lake"],
        &["run", "postgres://user:hunter2@h/d", "nowhere"],
        &["explain", "x", url],
    ] {
        for more in [&[][..], &["-o", "json"]] {
            let all: Vec<&str> = arguments.iter().chain(more).copied().collect();
            let wrong = place.run(&all);
            assert_eq!(wrong.code, Some(2), "{all:?} {wrong:?}");
            assert!(!wrong.stderr.contains("hunter2") && !wrong.stdout.contains("hunter2"), "{wrong:?}");
        }
    }
}

#[test]
fn a_wrong_address_on_the_command_line_says_what_to_write() {
    let wrong = Place::new().run(&["run", "postgres://user@h/shop", "lake"]);
    assert_eq!(
        wrong.stderr,
        "error CF005: SINK_URI is not the address of a place for tables\n  try: write file:///path, \
         s3://bucket/path, gs://bucket/path or abfss://container@account.dfs.core.windows.net/path\n  \
         see: docs/errors/CF005.md (wrong use of the command line)\n"
    );
}

#[test]
fn explain_knows_every_code_and_no_other() {
    let place = Place::new();
    for code in strandline::error::codes::ALL {
        let page = place.run(&["explain", &code.id.to_lowercase()]);
        assert_eq!(page.code, Some(0));
        assert!(page.stdout.contains(code.id), "{page:?}");
    }
    assert_eq!(place.run(&["explain", "PG041", "-o", "json"]).json()["exit"], 1);
    let unknown = place.run(&["explain", "XX999"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.starts_with("error CF005: there is no error code \"XX999\"\n  try: "),
        "{unknown:?}"
    );
}

#[test]
fn resync_without_yes_prints_the_plan_and_exits_with_2() {
    let place = Place::with_config(GOOD);
    let plan = place.run(&["resync", "public.b", "public.a", "public.b"]);
    assert_eq!(plan.code, Some(2));
    assert_eq!(
        plan.stdout,
        "Will copy again, from u@h:5432/shop to file:///lake (delta):\n  public.a\n  public.b\n\n\
         Each table is read whole from the source while the others go on. Readers see its old rows until\n\
         the new copy replaces them in one commit; rows that are gone from the source are gone then too.\n"
    );
    assert_eq!(plan.stderr, "nothing was done: add --yes to do it\n");
    let json = place.run(&["resync", "public.a", "-o", "json"]);
    assert_eq!((json.code, json.json()["requested"].as_bool()), (Some(2), Some(false)));
}

#[test]
fn a_part_of_a_table_is_put_right_and_never_swapped() {
    let place = Place::with_config(GOOD);
    let refused = place.run(&["resync", "public.a", "--yes", "--mode", "swap", "--where", "id > 7"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.starts_with("error CF005: --where with --mode swap"), "{refused:?}");
    assert_eq!(place.run(&["resync", "public.a", "--mode", "swap"]).code, Some(2), "the plan");
    let plan = place.run(&["resync", "public.a", "--where", "id > 7"]);
    assert_eq!(plan.code, Some(2), "{plan:?}");
    assert!(
        plan.stdout.contains("Will compare and put right") && plan.stdout.contains("NOT removed"),
        "{plan:?}"
    );
}

#[test]
fn resync_takes_names_that_the_configuration_covers() {
    let place = Place::with_config(GOOD);
    for (table, message) in [
        ("orders", "the table \"orders\" names no schema"),
        ("public.*", "the table \"public.*\" is a pattern"),
        ("other.orders", "the table \"other.orders\" is not covered by tables.include and tables.exclude"),
    ] {
        let wrong = place.run(&["resync", table, "--yes"]);
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert!(wrong.stderr.starts_with(&format!("error CF005: {message}\n  try: ")), "{wrong:?}");
    }
}

#[test]
fn the_manual_page_names_every_command_and_completions_are_scripts() {
    let place = Place::new();
    let man = place.run(&["man"]);
    assert_eq!((man.code, man.stderr.as_str()), (Some(0), ""));
    for word in ["validate", "resync", "register", "until\\-lsn", "log\\-format"] {
        assert!(man.stdout.contains(word), "{word}:\n{}", man.stdout);
    }
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef strandline"), ("fish", "complete -c strandline")]
    {
        let script = place.run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{script:?}");
        assert!(script.stdout.contains(word), "{shell}");
    }
}
