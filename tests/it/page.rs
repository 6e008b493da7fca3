//! The page in a real browser, without a window: it draws what is, its script says nothing on the console, and without scripts it still
//! tells the state. `make page-test` runs it where Chromium is installed; the pictures stay in `target/page`.

use crate::harness::{LONG, Scene, until};
use crate::health::ask;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn pictures() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
    std::fs::create_dir_all(&path).expect("the pictures have a place");
    path
}

/// What the browser made of the page, and what its console said.
fn browse(scene: &Scene, profile: &str, more: &[&str]) -> (String, String) {
    let url = format!("http://{}/", scene.config.listen);
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args(["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=4000", "--timeout=15000"])
        .arg(format!("--user-data-dir={}", scene.dir().join(profile).display()))
        .args(more)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("chromium runs: apt-get install chromium");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let console: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), console.join("\n"))
}

#[test]
#[ignore = "needs chromium: make page-test"]
fn the_page_in_a_browser_with_and_without_scripts() {
    let mut scene = Scene::new("page");
    scene.config.more = "health: {grace: 1s}\n".into();
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 1000) i;
         create table invoices (id int primary key, total numeric(10, 2)); insert into invoices values (1, 1)",
    );
    let mut running = scene.start_run(&[]);
    let shows = |wanted: &str| ask(&scene, "/api/v1/status").is_ok_and(|(_, body)| body.contains(wanted));
    until(LONG, "it streams", || shows("\"state\":\"streaming\""));
    scene.sql().exec("alter table invoices alter total type text; insert into invoices values (2, 'x')");
    until(LONG, "a table is stopped", || shows("\"state\":\"degraded\""));

    let (drawn, console) = browse(&scene, "one", &["--dump-dom"]);
    assert_eq!(console, "", "the console is silent");
    for word in
        ["public.orders", "public.invoices", "degraded", "PG022", "Resync", "Pause", "strandline_shop"]
    {
        assert!(drawn.contains(word), "{word}:\n{drawn}");
    }
    assert!(!drawn.contains("<!--"), "nothing is left unfilled:\n{drawn}");
    let (plain, _) = browse(&scene, "two", &["--dump-dom", "--blink-settings=scriptEnabled=false"]);
    for word in ["public.orders", "public.invoices", "degraded", "PG022", "strandline resync"] {
        assert!(plain.contains(word), "without scripts, {word}:\n{plain}");
    }
    for (name, size) in [("desktop", "1280,900"), ("phone", "390,844")] {
        let file = pictures().join(format!("{name}.png"));
        let shot = format!("--screenshot={}", file.display());
        let (_, console) = browse(&scene, name, &[&shot, &format!("--window-size={size}")]);
        assert_eq!(console, "", "{name}");
        assert!(std::fs::metadata(&file).expect("a picture").len() > 10_000, "{name} is empty");
    }
    running.terminate();
    assert!(running.is_running() || running.is_done());
    running.wait(LONG).expect_code(0);
}
