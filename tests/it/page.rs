//! The page in a real browser, without a window: it draws what is, its buttons do what they say, its script says nothing on the
//! console, and without scripts it still tells the state. `make page-test` runs it where Chromium is installed; the pictures
//! stay in `target/page`.

use crate::harness::browser::Browser;
use crate::harness::{LONG, Scene, until};
use crate::health::ask;
use std::path::{Path, PathBuf};

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (390, 844);

fn picture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
    std::fs::create_dir_all(&path).expect("the pictures have a place");
    path.join(format!("{name}.png"))
}

/// A pipeline with one live table and one that is stopped.
fn degraded(name: &str) -> (Scene, crate::harness::process::Strandline) {
    let mut scene = Scene::new(name);
    scene.config.more = "health: {grace: 1s}\n".into();
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 1000) i;
         create table invoices (id int primary key, total numeric(10, 2)); insert into invoices values (1, 1)",
    );
    let running = scene.start_run(&[]);
    let shows = |wanted: &str| ask(&scene, "/api/v1/status").is_ok_and(|(_, body)| body.contains(wanted));
    until(LONG, "it streams", || shows("\"state\":\"streaming\""));
    scene.sql().exec("alter table invoices alter total type text; insert into invoices values (2, 'x')");
    until(LONG, "a table is stopped", || shows("\"state\":\"degraded\""));
    (scene, running)
}

#[test]
#[ignore = "needs chromium: make page-test"]
fn the_page_in_a_browser_with_and_without_scripts() {
    let (scene, running) = degraded("page");
    let url = format!("http://{}/", scene.config.listen);
    let everything = [
        "public.orders",
        "public.invoices",
        "DEGRADED",
        "PG022",
        "Resync",
        "Pause",
        "strandline_shop",
        "memory",
    ];
    for (name, size) in [("desktop", DESKTOP), ("phone", PHONE)] {
        let mut browser = Browser::open(&scene.dir().join(name), size);
        browser.visit(&url);
        browser.shows(&everything);
        until(LONG, "lines are drawn", || {
            browser.eval("document.querySelectorAll('svg path').length > 2") == true
        });
        let seen = browser.eval(
            "[...document.querySelectorAll('button')].every(b => b.offsetParent === null || b.getBoundingClientRect().right <= innerWidth)",
        );
        assert_eq!(seen, true, "{name}: every button can be pressed");
        let wide = browser.eval("document.documentElement.scrollWidth <= window.innerWidth");
        browser.picture(&picture(name));
        assert_eq!(wide, true, "{name}: nothing sticks out");
        assert_eq!(browser.complaints(), "", "{name}: the console is silent");
    }
    let mut plain = Browser::open(&scene.dir().join("plain"), PHONE);
    plain.without_scripts();
    plain.visit(&url);
    plain.shows(&[
        "public.orders",
        "public.invoices",
        "DEGRADED",
        "PG022",
        "strandline resync",
        "Without JavaScript",
    ]);
    plain.picture(&picture("plain"));
    running.terminate();
    running.wait(LONG).expect_code(0);
}

#[test]
#[ignore = "needs chromium: make page-test"]
fn the_buttons_of_the_page_do_what_they_say() {
    let (scene, running) = degraded("page-buttons");
    let mut browser = Browser::open(&scene.dir().join("browser"), DESKTOP);
    browser.visit(&format!("http://{}/", scene.config.listen));
    browser.shows(&["public.orders", "DEGRADED"]);

    browser.press("header", "Pause");
    browser.shows(&["Stop reading from the source?"]);
    browser.picture(&picture("question"));
    browser.press("dialog", "Leave it");
    assert!(browser.text().contains("DEGRADED"), "nothing was done");
    browser.press("header", "Pause");
    browser.press("dialog", "Do it");
    browser.shows(&["Resume"]);
    browser.press("header", "Resume");
    browser.shows(&["Go on reading from the source?"]);
    browser.press("dialog", "Do it");
    until(LONG, "it can be paused again", || browser.eval("$('hold').textContent") == "Pause");

    // The table that stopped comes back by its button.
    browser.press("#tables tr", "Resync");
    browser.shows(&["Copy public.invoices again"]);
    browser.press("dialog", "Do it");
    browser.shows(&["STREAMING", "Nothing needs attention.", "What happened"]);
    browser.picture(&picture("mended"));
    assert_eq!(browser.complaints(), "", "the console is silent");

    // Somebody who looks at a page of a process that died must see it.
    running.kill9();
    browser.shows(&["NOT REACHED", "has not answered for"]);
    assert!(!browser.text().contains("Nothing needs attention"), "{}", browser.text());
    browser.eval("draw(status)");
    browser.shows(&["NOT REACHED"]);
    browser.picture(&picture("dead"));
}
