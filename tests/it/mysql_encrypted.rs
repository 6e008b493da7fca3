//! A binary log that the server encrypts on its disk: MySQL with a keyring, MariaDB with keys from a file. On the wire it is
//! plain, with events that say so; places in it are those of its files.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::{LONG, until};

/// Rows that must not stand in the files as they are.
const MARK: &str = "nobody may read this in a file";

/// Restarts the server with a log that is encrypted.
fn encrypt(scene: &mut MyScene) {
    let data = scene.server.data();
    let write = |name: &str, text: &str| std::fs::write(data.join(name), text).expect("the data directory");
    if scene.server.brand.is_mariadb() {
        write("keys", "1;770A8A65DA156D24EE2A093277530142DA3FC1B8DB7B8C9D1E2F30415263748A\n");
        let keys = format!("--file-key-management-filename={}", data.join("keys").display());
        scene.server.restart_with(&["--plugin-load-add=file_key_management", &keys, "--encrypt-binlog=ON"]);
    } else {
        write("mysqld.my", r#"{"components": "file://component_keyring_file"}"#);
        let path = data.join("keyring").display().to_string();
        write("component_keyring_file.cnf", &format!(r#"{{"path": {path:?}, "read_only": false}}"#));
        scene.server.restart_with(&["--binlog-encryption=ON"]);
    }
}

/// How many log files there are, and how many of them show what was written.
fn files(scene: &MyScene) -> (usize, usize) {
    let mut sql = scene.sql();
    let names = sql.rows("show binary logs").into_iter().filter_map(|row| row.into_iter().next().flatten());
    let shows = |name: &String| {
        let bytes = std::fs::read(scene.server.data().join(name)).expect("a log file");
        bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes())
    };
    let names: Vec<String> = names.collect();
    (names.len(), names.iter().filter(|name| shows(name)).count())
}

#[test]
fn an_encrypted_log_is_followed_over_files_and_restarts() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = MyScene::new("my-encrypted", brand) else { continue };
        scene.sql().exec("create table t (id int primary key, v varchar(60))");
        scene.sql().exec(&format!("insert into t values (1, '{MARK}'), (2, 'two')"));
        scene.drain();
        assert_eq!(files(&scene).1, 1, "{brand:?}: it is plain");
        // In the files from before, and on in those that are encrypted.
        scene.sql().exec("update t set v = 'before' where id = 2");
        encrypt(&mut scene);
        let mut sql = scene.sql();
        sql.exec(&format!("insert into t values (3, '{MARK}')"));
        let mut running = scene.start_run(&[]);
        until(LONG, "the rows of both", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            running.stderr().contains("\"took over\"") && scene.difference("shop.t").is_none()
        });
        sql.exec("flush binary logs");
        sql.exec(&format!("insert into t values (4, '{MARK}')"));
        until(LONG, "the row of another file", || scene.difference("shop.t").is_none());
        // In the middle of a file: the last transaction is read again, and met.
        running.kill9();
        sql.exec(&format!("update t set v = concat(v, '!') where v = '{MARK}'"));
        sql.exec("flush binary logs");
        sql.exec("begin; insert into t values (5, 'five'); delete from t where id = 1; commit");
        drop(sql);
        scene.server.stop();
        scene.server.restart();
        scene.sql().exec("insert into t values (6, 'six')");
        scene.drain();
        scene.assert_equal(&["shop.t"]);
        let (all, plain) = files(&scene);
        assert!(all >= 5 && plain == 1, "{brand:?}: {plain} of {all} files are plain");
    }
}
