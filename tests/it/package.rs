//! The Debian package: built of the binary under test, its scripts read by a shell, unpacked, and run from where it lies.
//! The systemd unit in systemd's own checker, where the machine has it.

use crate::harness::process;
use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn place() -> PathBuf {
    let path = std::env::temp_dir().join(format!("strandline-package-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a place");
    path
}

#[test]
fn the_debian_package_holds_what_it_needs_and_its_unit_is_understood() {
    let place = place();
    let binary =
        std::env::var_os("STRANDLINE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_strandline").into());
    // Packing a binary with debug information takes long; what is packed is the same.
    let small = place.join("strandline");
    std::fs::copy(&binary, &small).expect("it is copied");
    run(Command::new("strip").arg(&small));
    run(Command::new("bash")
        .arg("scripts/deb.sh")
        .arg(&small)
        .arg(&place)
        .env("STRANDLINE_DEB_COMPRESSION", "none")
        .current_dir(here()));
    let version = run(process::command().arg("version")).trim().replace("strandline ", "");
    let package = std::fs::read_dir(&place)
        .expect("it is there")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .expect("a package");
    assert!(package.to_string_lossy().contains(&format!("strandline_{version}_")), "{}", package.display());
    let control = run(Command::new("dpkg-deb").arg("--info").arg(&package));
    assert!(
        control.contains("Package: strandline") && control.contains("Depends: libc6 (>= 2."),
        "{control}"
    );
    let root = place.join("root");
    run(Command::new("dpkg-deb").arg("--raw-extract").args([&package, &root]));
    for script in ["postinst", "prerm"] {
        run(Command::new("sh").arg("-n").arg(root.join("DEBIAN").join(script)));
    }
    for file in [
        "usr/lib/systemd/system/strandline.service",
        "usr/share/man/man1/strandline.1.gz",
        "usr/share/doc/strandline/operate/runbook.md",
        "usr/share/doc/strandline/errors/PG041.md",
        "usr/share/doc/strandline/prometheus/rules.yaml",
        "usr/share/bash-completion/completions/strandline",
    ] {
        let found = std::fs::metadata(root.join(file));
        assert!(found.is_ok_and(|file| file.len() > 200), "{file}");
    }
    let said = run(Command::new(root.join("usr/bin/strandline")).arg("version"));
    assert_eq!(said.trim(), format!("strandline {version}"));
    check_unit(&root);
    std::fs::remove_dir_all(&place).expect("it goes");
}

/// The unit as systemd reads it, with the program where it was unpacked.
fn check_unit(root: &Path) {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("no systemd here: the unit is not checked");
        return;
    }
    let text =
        std::fs::read_to_string(root.join("usr/lib/systemd/system/strandline.service")).expect("the unit");
    let unit = root.join("strandline.service");
    let program = root.join("usr/bin/strandline").display().to_string();
    std::fs::write(&unit, text.replace("/usr/bin/strandline", &program)).expect("the unit");
    let said = run(Command::new("systemd-analyze").arg("verify").arg(&unit));
    assert!(!said.contains("strandline.service"), "{said}");
}
