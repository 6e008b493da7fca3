//! Every code of every character set, against what running servers make of it.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;
use std::collections::BTreeMap;
use strandline::binlog::charset::Charset;

/// Numbers from `first` to `last` as `i`.
fn numbers(first: u32, last: u32) -> String {
    format!("with recursive n(i) as (select {first} union all select i + 1 from n where i < {last}) ")
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("digits")).collect()
}

/// Compares codes of so many bytes; how many there were.
fn compare(sql: &mut MySql, name: &str, charset: Charset, codes: (u32, u32), add: u32) -> usize {
    let code = format!("unhex(if(length(hex(i + {add})) % 2, concat('0', hex(i + {add})), hex(i + {add})))");
    let query = numbers(codes.0, codes.1)
        + &format!("select hex({code}), hex(convert(convert({code} using {name}) using utf8mb4)) from n");
    let rows = sql.rows(&query);
    let mut wrong = Vec::new();
    for row in &rows {
        let [code, text] = &row[..] else { panic!("two columns") };
        let bytes = unhex(code.as_ref().expect("a code"));
        // What is not defined becomes a question mark, no text at all, or null.
        let question = bytes.contains(&b'?');
        let text = text.as_ref().map(|text| String::from_utf8(unhex(text)).expect("UTF-8"));
        let expected = text.filter(|text| !text.is_empty() && (question || !text.contains('?')));
        let found = charset.to_text(&bytes);
        if found != expected && !(question && found.is_none()) {
            wrong.push(format!("{code:?}: {found:?} for {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{name}, {} codes: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    rows.len()
}

fn every_code(brand: Brand, test: &str) {
    let Some(scene) = MyScene::new(test, brand) else { return };
    let mut sql = scene.sql();
    sql.exec(if brand.is_mariadb() {
        "set max_recursive_iterations = 100000"
    } else {
        "set cte_max_recursion_depth = 100000"
    });
    let collations = sql.rows(
        "select c.id, s.character_set_name, s.maxlen from information_schema.collations c join \
         information_schema.character_sets s on c.character_set_name = s.character_set_name where c.id is not null",
    );
    let mut sets: BTreeMap<String, Charset> = BTreeMap::new();
    for row in &collations {
        let [Some(id), Some(name), Some(widest)] = &row[..] else { panic!("a collation without a name") };
        let charset = Charset::of_collation(id.parse().expect("a number"));
        let charset = charset.unwrap_or_else(|| panic!("collation {id} of {name} is not known"));
        assert_eq!(charset.widest().to_string(), *widest, "{name}");
        let first = *sets.entry(name.clone()).or_insert(charset);
        assert_eq!(first, charset, "collation {id} of {name}");
    }
    assert!(sets.len() >= 40, "{sets:?}");
    let mut codes = 0;
    for (name, &charset) in &sets {
        match (charset, charset.widest()) {
            (Charset::Binary, _) => {}
            (_, 1) => codes += compare(&mut sql, name, charset, (1, 255), 0),
            (Charset::Multi(_), widest) => {
                codes += compare(&mut sql, name, charset, (1, 255), 0);
                codes += compare(&mut sql, name, charset, (0x8000, 0xFFFF), 0);
                if widest == 3 {
                    codes += compare(&mut sql, name, charset, (0xA1A1, 0xFEFE), 0x8F_0000);
                }
            }
            _ => {}
        }
    }
    println!("{brand:?}: {codes} codes of {} sets, {} collations", sets.len(), collations.len());
    assert!(codes > 200_000);
}

#[test]
fn every_code_of_mysql() {
    every_code(Brand::MySql9, "my-charsets");
}

#[test]
fn every_code_of_mariadb() {
    every_code(Brand::MariaDb118, "my-charsets-118");
}
