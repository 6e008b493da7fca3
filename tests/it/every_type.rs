//! Every type that PostgreSQL has: copied, streamed by insert and by update, against the source's own text.
//!
//! A table per family, a column per type, a row per value. What the source holds is written by the types' output
//! functions under the pinned settings; what the target holds is read by DuckDB. In the second test the stream is
//! in text form, because the publication holds a type that we do not know.

use crate::harness::reader::Engine;
use crate::harness::sql::Sql;
use crate::harness::{LONG, NEWEST, OLDEST, Scene, compare, matrix, until};
use std::collections::BTreeMap;

/// Types and values, one table.
type Family = (&'static str, &'static [(&'static str, &'static [&'static str])]);

/// A value is the text that the type's input function takes; after `=` it is an expression; after `15:` or `18:` it is
/// for servers of that version and later.
const FAMILIES: &[Family] = &[
    (
        "numbers",
        &[
            ("boolean", &["true", "false"]),
            ("smallint", &["0", "-32768", "32767"]),
            ("bigint", &["0", "-9223372036854775808", "9223372036854775807"]),
            (
                "numeric",
                &[
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "1e130000",
                    "1e-16000",
                    "-0.00",
                    "1.10",
                    "1000000000000000",
                ],
            ),
            ("numeric(39,0)", &["NaN", "999999999999999999999999999999999999999", "-1", "0"]),
            ("numeric(1000,500)", &["NaN", "=1::numeric(1000,500)/3", "-1e499", "1e-500"]),
            ("numeric(60,-3)", &["123456", "-1e50", "0", "NaN"]),
            ("numeric(5,40)", &["1e-40", "-9.9999e-36", "0"]),
            ("money", &["0", "-0.01", "1234.56", "-92233720368547758.08", "92233720368547758.07", "1000000"]),
            ("real", &["NaN", "-Infinity", "1e-45", "-0", "3.4028235e38"]),
            ("double precision", &["NaN", "-Infinity", "5e-324", "-0", "1.7976931348623157e308", "1e23"]),
            ("oid", &["0", "1", "4294967295"]),
            ("xid", &["0", "4294967295"]),
            ("cid", &["0", "4294967295"]),
            ("xid8", &["0", "1", "9223372036854775808", "18446744073709551615"]),
            ("regclass", &["=0::regclass", "pg_class", "4294967295"]),
            ("regproc", &["now", "=0::regproc"]),
            ("regtype", &["int4", "timestamp with time zone"]),
            ("regnamespace", &["pg_catalog"]),
            ("regrole", &["postgres"]),
        ],
    ),
    (
        "words",
        &[
            ("\"char\"", &["a", "", " ", "\\", "~", "18:\\351"]),
            ("name", &["", "a name", "žluť"]),
            ("text", &["", "NULL", "a\nb\tc\"d\\e'f", "🐎"]),
            ("char(5)", &["", "a", "a b  "]),
            ("varchar(5)", &["", "a", "a b  "]),
            ("refcursor", &["", "cursor 1"]),
            ("mood", &["happy", "very sad", "quote\"d", "comma,"]),
            ("json", &["{\"b\": 1,  \"a\": [1,2 , null], \"a\": 2}", "null", "\"\\u0000\"", "1e400"]),
            ("jsonb", &["{\"b\": 1,  \"a\": [1,2 , null]}", "1e400", "123456789012345678901234567890.10"]),
            (
                "jsonpath",
                &[
                    "$.a[*] ? (@ > 3)",
                    "strict $.\"key with \\\"quotes\\\"\"",
                    "$",
                    "lax $.a.b[0 to last].size()",
                    "$.x like_regex \"^a\" flag \"i\"",
                ],
            ),
            (
                "xml",
                &[
                    "<a/>",
                    "",
                    "just text",
                    "<a>žluť &lt; &amp;</a>",
                    "<?xml version=\"1.0\"?><a/>",
                    "<?xml version=\"1.1\" encoding=\"UTF-8\"?>\n<a/>",
                    "<?xml version=\"1.0\" standalone=\"yes\"?><a>1</a>",
                ],
            ),
            ("bytea", &["", "\\x00ff", "\\xdeadbeef"]),
            ("uuid", &["00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"]),
            ("bit(1)", &["0", "1"]),
            ("bit(13)", &["1010101010101", "0000000000000"]),
            ("bit(16)", &["1111000011110001"]),
            ("bit varying", &["", "1", "10000000", "101010101", "=repeat('10', 5000)::varbit"]),
            ("bit varying(10)", &["", "1111111111"]),
        ],
    ),
    (
        "times",
        &[
            ("date", &["4713-01-01 BC", "0001-12-31 BC", "1582-10-10", "9999-12-31"]),
            ("time", &["00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.1"]),
            ("time(0)", &["00:00:00.5", "23:59:59.4"]),
            (
                "timetz",
                &[
                    "00:00:00+00",
                    "24:00:00+02",
                    "24:00:00-15:59:59",
                    "23:59:59.999999+15:59:59",
                    "12:34:56.1+05:30",
                    "12:34:56-00:00:01",
                    "01:02:03+00:00:30",
                    "01:02:03.000001-11:30",
                    "00:00:00+05:53:28",
                ],
            ),
            ("timestamp", &["0001-01-01 00:00:00.000001", "1969-12-31 23:59:59.999999"]),
            ("timestamptz", &["1900-01-01 00:00:00+05:53:28", "1969-12-31 23:59:59.999999+00"]),
            (
                "interval",
                &[
                    "0",
                    "1 year",
                    "-1 year",
                    "1 mon",
                    "2 mons",
                    "1 day",
                    "-1 day",
                    "1 year 2 mons 3 days 04:05:06.789",
                    "-1 year -2 mons +3 days",
                    "-1 year +2 mons -3 days +04:05:06",
                    "1 mon -1 day +00:00:01",
                    "-00:00:00.000001",
                    "00:00:00.1",
                    "1 day -00:00:01",
                    "-1 day 00:00:01",
                    "100:00:00",
                    "-100:59:59.999999",
                    "178000000 years",
                    "-178000000 years",
                    "178956970 years 7 mons",
                    "2147483647 days",
                    "-2147483648 days",
                    "15:2562047788:00:54.775807",
                    "15:-2562047788:00:54.775807",
                    "15:='-2562047788:00:54.775807'::interval - interval '0.000001'",
                    "1 year -13 mons",
                    "24:00:00",
                    "25 hours",
                    "18:infinity",
                    "18:-infinity",
                    "=make_interval(months => 2147483647, days => 2147483647)",
                ],
            ),
            ("interval day to second(3)", &["1 day 00:00:00.123456", "-00:00:00.5"]),
        ],
    ),
    (
        "network",
        &[
            (
                "inet",
                &[
                    "0.0.0.0",
                    "255.255.255.255",
                    "10.1.2.3/8",
                    "10.0.0.0/32",
                    "192.168.100.128/25",
                    "0.0.0.0/0",
                    "::",
                    "::1",
                    "::/0",
                    "1::",
                    "1:2:3:4:5:6:7:8",
                    "1:0:0:4::8",
                    "1:0:0:0:5:0:0:8",
                    "::ffff:1.2.3.4",
                    "::1.2.3.4",
                    "::ffff:0:0",
                    "2001:db8::1/64",
                    "fe80::1/10",
                    "1:2:3:4:5:6:7::",
                    "0:2:3:4:5:6:7:8",
                    "::2:3:4:5:6:7:8",
                    "1:2:3:4:5:6::",
                    "::ffff:0:1.2.3.4",
                    "::0.1.0.0",
                    "ABCD:EF01::",
                    "1:0:3:0:0:6:7:8",
                ],
            ),
            (
                "cidr",
                &[
                    "10.0.0.0/8",
                    "10.1.2.3/32",
                    "0.0.0.0/0",
                    "::/0",
                    "::1/128",
                    "2001:db8::/32",
                    "::ffff:1.2.3.0/120",
                ],
            ),
            ("macaddr", &["08:00:2b:01:02:03", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"]),
            ("macaddr8", &["08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff:ff:ff"]),
            ("pg_lsn", &["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]),
            ("tid", &["(0,0)", "(0,1)", "(4294967295,65535)"]),
            ("pg_snapshot", &["10:10:", "10:20:10,14,15", "1:9223372036854775807:"]),
            ("txid_snapshot", &["10:20:10,14,15"]),
        ],
    ),
    (
        "geometric",
        &[
            ("point", &["(0,0)", "(-0,1e-300)", "(1e23,NaN)", "(Infinity,-Infinity)", "(0.1,0.2)"]),
            ("line", &["{1,2,3}", "{-1,0,1e300}", "{0,-1,0.5}"]),
            ("lseg", &["[(0,0),(1,1)]", "[(-1.5,2),(3,4)]"]),
            ("box", &["(1,1),(0,0)", "(0,0),(1,1)", "(-1,2),(3,-4)"]),
            ("path", &["((0,0),(1,1))", "[(0,0),(1,1),(2,0)]", "[(1,1)]", "((1,2))"]),
            ("polygon", &["((0,0),(1,1),(2,0))", "((0.5,0.25))"]),
            ("circle", &["<(0,0),1>", "<(-1.5,2),0>", "<(1e100,1),1e-100>"]),
        ],
    ),
    (
        "search",
        &[
            (
                "tsvector",
                &[
                    "",
                    "a",
                    "'it''s' 'back\\\\slash' 'two words'",
                    "fat:2,4B cat:3A rat:16383D dog:1C",
                    "=to_tsvector('english', 'The Fat Rats ate 3 fat cats')",
                    "'žluť':1 '🐎'",
                    "=array_to_tsvector(array['b','a','c'])",
                ],
            ),
            (
                "tsquery",
                &[
                    "",
                    "fat",
                    "fat & rat",
                    "fat | rat & cat",
                    "(fat | rat) & cat",
                    "!fat",
                    "!(fat & rat)",
                    "!!fat",
                    "fat <-> rat",
                    "fat <3> rat",
                    "fat <-> (rat <-> cat)",
                    "(fat <-> rat) <-> cat",
                    "fat <-> (rat | cat)",
                    "fat <-> !rat",
                    "fat:AB",
                    "fat:*",
                    "fat:*ABCD & 'it''s' | 'a\\\\b'",
                    "a & b & c & d",
                    "a | b | c | d",
                    "a & (b | (c & (d | e)))",
                    "=string_agg('w' || i, ' & ')::tsquery from generate_series(1, 150) i",
                    "=('!(' || string_agg('w' || i, ' | ') || ')')::tsquery from generate_series(1, 150) i",
                ],
            ),
        ],
    ),
    (
        "ranges",
        &[
            ("int4range", &["empty", "[1,10)", "(1,10]", "(,5)", "[5,)", "(,)", "[2147483646,2147483647)"]),
            ("int8range", &["[1,9223372036854775807)", "(-9223372036854775808,)"]),
            ("numrange", &["[1.10,2.20]", "(1,2)", "[NaN,]", "[-Infinity,Infinity]", "(,1e100)", "empty"]),
            (
                "daterange",
                &["[2024-01-01,2024-12-31]", "[0044-03-15 BC,)", "(-infinity,infinity)", "[5874897-01-01,)"],
            ),
            (
                "tsrange",
                &[
                    "[\"2024-01-01 12:00:00\",\"2024-01-01 12:00:00.000001\")",
                    "[294276-12-31 23:59:59.999999,)",
                    "(-infinity,\"4713-01-01 00:00:00 BC\"]",
                ],
            ),
            ("tstzrange", &["[\"2024-01-01 12:00:00+02\",infinity)", "(,\"0001-01-01 00:00:00+00 BC\")"]),
            ("textrange", &["[a,b)", "[\"\",a]", "[\"a,b\",\"c\"\"d\"]", "[\"b\\\\c\",)", "[\" \",\"(x]\"]"]),
            ("floatrange", &["[1.5,1e23)", "(-Infinity,0)"]),
            ("int4multirange", &["{}", "{[1,3)}", "{[1,3),[5,8)}", "{(,)}"]),
            ("nummultirange", &["{[1.1,2.2],(3,4)}"]),
            (
                "tsmultirange",
                &["{[\"2024-01-01 12:00:00\",\"2024-01-02 12:00:00\"),[\"2025-01-01 00:00:00\",)}"],
            ),
            ("datemultirange", &["{[2024-01-01,2024-02-01),[2024-03-01,infinity)}"]),
            ("textmultirange", &["{[a,b),[\"c d\",\"e\"\"f\"]}"]),
        ],
    ),
    (
        "arrays",
        &[
            (
                "int4[]",
                &[
                    "{}",
                    "{1}",
                    "{1,NULL,-3}",
                    "{NULL}",
                    "{{1,2},{3,4}}",
                    "{{NULL}}",
                    "[0:1]={7,8}",
                    "[-2:-1][3:4]={{1,2},{3,4}}",
                    "{{{1},{2}},{{3},{4}},{{5},{6}}}",
                    "[2:2]={1}",
                    "{{{{{{1}}}}}}",
                ],
            ),
            ("int2[]", &["{-32768,32767}"]),
            ("int8[]", &["{-9223372036854775808,9223372036854775807}"]),
            (
                "text[]",
                &[
                    "{}",
                    "{\"\"}",
                    "{NULL,\"NULL\",null,\"null\"}",
                    "{\"a,b\",\"c\\\"d\",\"e\\\\f\",\"{g}\"}",
                    "{\" \",\"a b\",\"\ta\",\"\n\"}",
                    "{{a,b},{c,d}}",
                    "{žluť,🐎}",
                    "{nulls,\"\u{A0}\"}",
                    "[5:6]={a,b}",
                ],
            ),
            ("varchar(3)[]", &["{abc,\"\"}"]),
            ("char(4)[]", &["{a,\"\"}"]),
            ("name[]", &["{a,\"b c\"}"]),
            ("\"char\"[]", &["{a,\"\",\" \"}"]),
            ("bool[]", &["{t,f,NULL}"]),
            (
                "float8[]",
                &[
                    "{NaN,Infinity,-Infinity,-0,0,5e-324,1.7976931348623157e308}",
                    "{1e23,1e22,9007199254740993,4.35,1e15,999999999999999,123456789012345680,0.0001,0.00001,1e-7,123456.789,100000,1e100}",
                    "=array_agg(2::float8 ^ i order by i) from generate_series(-1074, 1023) i",
                    "=array_agg(sin(i) * 10::float8 ^ (i % 300 - 150) order by i) from generate_series(1, 3000) i",
                    "=array_agg(1125899906842624::float8 + i * 0.25 order by i) from generate_series(0, 400) i",
                    "=array_agg(i * 1e22::float8 order by i) from generate_series(1, 300) i",
                    "=array_agg(('1e' || i)::float8 order by i) from generate_series(-323, 308) i",
                ],
            ),
            (
                "float4[]",
                &[
                    "{NaN,Infinity,-Infinity,-0,1e-45,3.4028235e38,16777216,999999,1e6,0.0001,0.00001,123456.7}",
                    "=array_agg((2::float8 ^ i)::float4 order by i) from generate_series(-149, 127) i",
                    "=array_agg((sin(i) * 10::float8 ^ (i % 60 - 30))::float4 order by i) from generate_series(1, 2000) i",
                    "=array_agg((8388608 + i * 0.5)::float4 order by i) from generate_series(0, 400) i",
                    "=array_agg(('1e' || i)::float4 order by i) from generate_series(-45, 38) i",
                ],
            ),
            ("numeric[]", &["{1.10,NaN,Infinity,1e-20,1e20,-0.5}"]),
            ("money[]", &["{-1234.56,0,92233720368547758.07}"]),
            ("date[]", &["{infinity,-infinity,2024-02-29,0044-03-15 BC,5874897-12-31,4713-01-01 BC}"]),
            ("time[]", &["{24:00:00,12:34:56.1}"]),
            ("timetz[]", &["{24:00:00+02,12:34:56.1-11:30:15}"]),
            (
                "timestamp[]",
                &[
                    "{infinity,-infinity,2024-02-29 12:00:00.5,0044-03-15 00:00:00 BC,294276-12-31 23:59:59.999999,9999-12-31 23:59:59}",
                ],
            ),
            ("timestamptz[]", &["{infinity,2024-02-29 12:00:00+02,0044-03-15 00:00:00+00 BC}"]),
            ("interval[]", &["{1 day,-1 mon,00:00:00.5}"]),
            ("bytea[]", &["{\"\\\\x00ff\",\"\"}"]),
            ("uuid[]", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"]),
            ("json[]", &["{\"{\\\"a\\\": 1}\",null}"]),
            ("jsonb[]", &["{\"{\\\"a\\\": [1, 2]}\",1}"]),
            ("xml[]", &["{<a/>,\"<b c=\\\"d\\\"/>\"}"]),
            ("bit(3)[]", &["{101,010}"]),
            ("inet[]", &["{10.0.0.1/8,::1}"]),
            ("macaddr[]", &["{08:00:2b:01:02:03}"]),
            ("point[]", &["{\"(1,2)\",NULL}"]),
            ("box[]", &["{(1,1),(0,0);(2,2),(0,0)}", "{NULL;(1,1),(0,0)}"]),
            ("polygon[]", &["{\"((0,0),(1,1))\"}"]),
            ("int4range[]", &["{\"[1,3)\",empty}"]),
            ("int4multirange[]", &["{\"{[1,3)}\"}"]),
            ("tsvector[]", &["{\"'a':1 'b'\"}"]),
            (
                "tsquery[]",
                &[
                    "{\"'a' & 'b'\"}",
                    "=array[string_agg('w' || i, ' | ')::tsquery] from generate_series(1, 3000) i",
                ],
            ),
            ("pg_lsn[]", &["{0/1,1/0}"]),
            ("oid[]", &["{1,4294967295}"]),
            ("xid8[]", &["{18446744073709551615}"]),
            ("tid[]", &["{\"(1,2)\"}"]),
            ("mood[]", &["{happy,\"very sad\",\"quote\\\"d\",\"comma,\"}"]),
            ("int2vector", &["1 2 -3", "", "7"]),
            ("oidvector", &["1 2 4294967295", ""]),
        ],
    ),
    (
        "made",
        &[
            (
                "pair",
                &[
                    "(1,a)",
                    "(,)",
                    "(1,)",
                    "(,\"\")",
                    "(2,\"a,b\")",
                    "(3,\"quote\"\"d\")",
                    "(4,\"back\\\\slash\")",
                    "(5,\"(x)\")",
                    "(6,\" \")",
                ],
            ),
            (
                "nested",
                &[
                    "(\"(1,a)\",\"{1,2}\",2024-01-01)",
                    "(,,)",
                    "(\"(,\"\"x y\"\")\",\"{}\",infinity)",
                    "(\"(7,\"\"q\"\"\"\"q\"\")\",{NULL},)",
                ],
            ),
            ("pair[]", &["{\"(1,a)\",\"(,)\",NULL}", "{{\"(1,\\\"a b\\\")\"}}"]),
            ("nested[]", &["{\"(\\\"(1,a)\\\",\\\"{1,2}\\\",2024-01-01)\"}"]),
            ("pairs", &["{\"(1,a)\"}"]),
            ("positive", &["1", "2147483647"]),
            ("very_positive", &["11"]),
            ("price", &["1.50", "99999999.99"]),
            ("small_text", &["abc", ""]),
            ("positive[]", &["{1,2}", "{NULL}"]),
            ("price[]", &["{1.50,2.00}"]),
            ("ints", &["{1,2}", "{{1},{2}}"]),
            ("ints[]", &["{\"{1,2}\",\"{3}\"}"]),
            ("spans", &["1 day", "-1 mon"]),
            ("other_schema.mood", &["other", "x y"]),
            ("moodrange", &["[happy,\"very sad\"]"]),
        ],
    ),
    (
        "extensions",
        &[
            (
                "hstore",
                &[
                    "",
                    "a=>1",
                    "a=>NULL, b=>\"\"",
                    "\"k=>v\"=>\"=>\", \"q\\\"q\"=>\"b\\\\s\"",
                    "žluť=>🐎",
                    "\"NULL\"=>\"NULL\"",
                    "aaa=>1, b=>2, cc=>3",
                ],
            ),
            ("hstore[]", &["{\"\\\"a\\\"=>\\\"1\\\"\",NULL}"]),
            ("citext", &["", "MiXed", "žluť"]),
            ("citext[]", &["{A,b}"]),
            ("ltree", &["", "a", "Top.Science.Astronomy"]),
            ("ltree[]", &["{a.b,c}"]),
            ("lquery", &["*.a@*{1,2}.!b|c%.*", "a"]),
            ("ltxtquery", &["a & b", "a@* | !b"]),
        ],
    ),
];

/// Extensions that the servers of `scripts/install.sh` do not have; a server that has one is asked for it too. Set
/// `STRANDLINE_PG_BIN_15` to such a server's `bin`.
const OPTIONAL: &[(&str, Family)] = &[
    (
        "postgis",
        (
            "places",
            &[
                (
                    "geometry",
                    &[
                        "POINT(1 2)",
                        "SRID=4326;POINT(1 2)",
                        "POINT EMPTY",
                        "POINT Z (1 2 3)",
                        "POINT M (1 2 3)",
                        "SRID=3857;POINT ZM (1 2 3 4)",
                        "GEOMETRYCOLLECTION EMPTY",
                        "POLYGON((0 0,1 0,1 1,0 0),(0.1 0.1,0.2 0.1,0.2 0.2,0.1 0.1))",
                        "SRID=4326;GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))",
                        "CIRCULARSTRING(0 0,1 1,2 0)",
                    ],
                ),
                ("geography(Point,4326)", &["POINT(1 2)", "POINT(-180 90)"]),
                ("geometry[]", &["=array['POINT(1 2)'::geometry, null, 'SRID=4326;POINT(3 4)']"]),
            ],
        ),
    ),
    (
        "vector",
        (
            "vectors",
            &[
                (
                    "vector",
                    &[
                        "[1,2,3]",
                        "[0.1,-0,1e-10,3.4e38]",
                        "=array_agg(sin(i)::float4 order by i)::vector from generate_series(1, 1536) i",
                    ],
                ),
                ("halfvec(3)", &["[1,2,3]", "[0.1,-65504,6e-08]"]),
                ("sparsevec", &["{1:1,3:2,5:3}/5", "{}/3", "{1000000000:0.5}/1000000000"]),
                ("vector[]", &["{\"[1,2]\",NULL}"]),
            ],
        ),
    ),
];

/// Those of the families that this server has.
fn families_of(sql: &mut Sql) -> Vec<Family> {
    let mut families = FAMILIES.to_vec();
    for (extension, family) in OPTIONAL {
        let found =
            sql.value(&format!("select count(*) from pg_available_extensions where name = '{extension}'"));
        if found == "1" {
            sql.exec(&format!("create extension {extension} schema ext"));
            families.push(*family);
            println!("with {extension}");
        }
    }
    families
}

/// Types that the families use.
const PREPARE: &str = "
    create schema ext; create extension hstore schema ext; create extension citext schema ext; create extension ltree schema ext;
    create schema other_schema; create type other_schema.mood as enum ('other', 'x y');
    create type mood as enum ('happy', 'quote\"d', 'very sad', 'comma,');
    create type pair as (i int, t text); create type nested as (p pair, a int[], d date);
    create domain pairs as pair[]; create domain positive as int check (value > 0);
    create domain very_positive as positive check (value > 10); create domain price as numeric(10,2);
    create domain small_text as varchar(5); create domain ints as int[]; create domain spans as interval;
    create type textrange as range (subtype = text); create type floatrange as range (subtype = float8);
    create type moodrange as range (subtype = mood);";

/// The same settings as ours, and where the types are.
const PINNED: &str = "set search_path = public, ext; set datestyle = 'ISO'; set intervalstyle = 'postgres'; \
     set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = 'hex'; set lc_monetary = 'C';";

fn pinned(scene: &Scene) -> Sql {
    let mut sql = scene.sql();
    sql.exec(PINNED);
    sql
}

/// The values of a family that a server of this version takes, as expressions: row, column, value.
fn values(types: &[(&str, &[&str])], major: u32) -> Vec<(usize, usize, String)> {
    let mut all = Vec::new();
    for (column, (name, values)) in types.iter().enumerate() {
        for value in *values {
            let since = |version: u32| Some((version, value.strip_prefix(&format!("{version}:"))?));
            let value = match since(15).or_else(|| since(18)) {
                Some((version, _)) if major < version => continue,
                Some((_, value)) => value,
                None => value,
            };
            let expression = match value.strip_prefix('=') {
                Some(expression) => format!("select {expression}"),
                None => format!("select $v${value}$v$::{}", on_server(name)),
            };
            all.push((all.len(), column, expression));
        }
    }
    all
}

/// How the source writes a column. What has a type of its own in Delta is written as the harness does.
fn written(column: &str, kind: &str, names: bool) -> String {
    match kind {
        "real" | "double precision" | "bytea" | "date" | "timestamp" | "timestamptz" => {
            let long = match kind {
                "timestamp" => "timestamp without time zone",
                "timestamptz" => "timestamp with time zone",
                other => other,
            };
            compare::expression(column, long)
        }
        "boolean" => format!("{column}::text"),
        // EWKB: the bytes here, their digits there.
        "geometry" | "geography(Point,4326)" => format!("lower({})", output_of(column)),
        "money" => format!("{column}::numeric::text"),
        kind if kind.starts_with("reg") && !kind.ends_with("[]") && !names => format!("{column}::oid::text"),
        _ => output_of(column),
    }
}

/// A type's output function; a cast to text may be another thing.
fn output_of(column: &str) -> String {
    format!("case when {column} is not distinct from null then null else format('%s', {column}) end")
}

type Cells = BTreeMap<(String, usize), Option<String>>;

/// Both sides of a table, by row and column.
fn cells(names: &[String], rows: Vec<Vec<Option<String>>>) -> Cells {
    let mut cells = Cells::new();
    for mut row in rows {
        let id = row.remove(0).expect("a key");
        assert_eq!(row.len(), names.len());
        for (column, value) in row.into_iter().enumerate() {
            let before = cells.insert((id.clone(), column), value);
            assert!(before.is_none(), "row {id} is there twice");
        }
    }
    cells
}

/// Every cell that differs, in words. `names`: `regclass` and its kin are names.
fn differences(scene: &mut Scene, (table, types): &Family, names: bool, engine: Engine) -> Vec<String> {
    let expressions: Vec<String> =
        types.iter().enumerate().map(|(i, (kind, _))| written(&format!("c{i}"), kind, names)).collect();
    let mut sql = pinned(scene);
    let source = sql.rows(&format!("select id, {} from {table}", expressions.join(", ")));
    let mut names = vec!["id".to_owned()];
    names.extend((0..types.len()).map(|i| format!("c{i}")));
    let path = scene.table(&format!("public.{table}"));
    let target = match scene.readers().try_rows(engine, &path, None, Some(&names)) {
        Ok(target) => target,
        Err(error) => return vec![format!("{table}: {error}")],
    };
    let (source, target) = (cells(&names[1..], source), cells(&names[1..], target));
    let mut found = Vec::new();
    for key in source.keys().chain(target.keys()) {
        let (ours, theirs) = (target.get(key), source.get(key));
        if ours != theirs {
            let cut =
                |value: Option<&Option<String>>| format!("{value:?}").chars().take(300).collect::<String>();
            let kind = types[key.1].0;
            found.push(format!("{table} row {} {kind}: source {}, target {}", key.0, cut(theirs), cut(ours)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Rows with all values, from this key on; how many.
fn fill(sql: &mut Sql, families: &[Family], major: u32, first: usize) -> usize {
    let mut count = 0;
    let mut refused = Vec::new();
    for (table, types) in families {
        for (row, column, value) in values(types, major) {
            count += 1;
            let insert = format!("insert into {table} (id, c{column}) values ({}, ({value}))", first + row);
            if let Err(error) = sql.try_exec(&insert) {
                refused.push(format!("{error}: {insert}"));
            }
        }
    }
    assert!(refused.is_empty(), "the source refuses\n{}", refused.join("\n"));
    count
}

/// Scales below zero and beyond the precision came with PostgreSQL 15.
fn on_server(kind: &str) -> &str {
    match kind {
        "numeric(60,-3)" | "numeric(5,40)" if matrix().is_some_and(|major| major < 15) => "numeric",
        kind => kind,
    }
}

fn create(sql: &mut Sql, families: &[Family]) {
    for (table, types) in families {
        let columns: Vec<String> =
            types.iter().enumerate().map(|(i, (kind, _))| format!("c{i} {}", on_server(kind))).collect();
        sql.exec(&format!("create table {table} (id int primary key, {})", columns.join(", ")));
    }
}

/// The rows of the copy once more, by updates of rows that are null.
fn update(sql: &mut Sql, families: &[Family]) {
    for (table, types) in families {
        let moves: Vec<String> = (0..types.len()).map(|i| format!("c{i} = b.c{i}")).collect();
        sql.exec(&format!(
            "insert into {table} (id) select id + 20000 from {table} where id < 10000;
             update {table} a set {} from {table} b where a.id = b.id + 20000 and b.id < 10000",
            moves.join(", ")
        ));
    }
}

#[track_caller]
fn assert_all_equal(scene: &mut Scene, families: &[Family], names: bool) {
    let by_duckdb = |family| differences(scene, family, names, Engine::DuckDb);
    let found: Vec<String> = families.iter().flat_map(by_duckdb).collect();
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

/// Every type, copied and streamed, as this reader sees it: what differs.
pub(crate) fn differences_by(scene: &mut Scene, engine: Engine) -> Vec<String> {
    let mut sql = pinned(scene);
    sql.exec(PREPARE);
    let families = families_of(&mut sql);
    create(&mut sql, &families);
    fill(&mut sql, &families, NEWEST, 0);
    scene.drain();
    fill(&mut sql, &families, NEWEST, 10_000);
    update(&mut sql, &families);
    scene.drain();
    families.iter().flat_map(|family| differences(scene, family, false, engine)).collect()
}

#[test]
fn copied_and_streamed_values_are_the_sources() {
    for major in [NEWEST, OLDEST] {
        let major = matrix().unwrap_or(major);
        let mut scene = Scene::on("every-type", major);
        let mut sql = pinned(&scene);
        sql.exec(PREPARE);
        let families = families_of(&mut sql);
        create(&mut sql, &families);
        let count = fill(&mut sql, &families, major, 0);
        assert!(count >= 400, "only {count} values");
        scene.drain();
        assert_all_equal(&mut scene, &families, false);
        fill(&mut sql, &families, major, 10_000);
        update(&mut sql, &families);
        // A label that the snapshot did not know.
        sql.exec("alter type mood add value 'new, \"label\"' after 'happy'");
        for (table, kind, value) in [
            ("words", "mood", "'new, \"label\"'"),
            ("arrays", "mood[]", "array['new, \"label\"', null]::mood[]"),
        ] {
            let types = FAMILIES.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, types)| types);
            let column = types.iter().position(|(name, _)| *name == kind).expect("a column of the type");
            sql.exec(&format!("insert into {table} (id, c{column}) values (50000, {value})"));
        }
        scene.drain();
        assert_all_equal(&mut scene, &families, false);
        println!("PostgreSQL {major}: {count} values, three ways");
    }
}

/// Types that we do not know: with a binary form and without, alone and within others.
const UNKNOWN: &[Family] = &[(
    "odd",
    &[
        ("cube", &["(1,2),(3,4)", "(0.1)", "()"]),
        ("cube[]", &["{\"(1),(2)\",NULL}"]),
        ("seg", &["1 .. 2", "<3", "5(+-)0.5"]),
        ("aclitem", &["postgres=r/postgres", "='=UC/postgres'::aclitem"]),
        ("aclitem[]", &["{postgres=r/postgres,=r/postgres}", "{}"]),
        ("regclass[]", &["{pg_class,-}"]),
        ("strange", &["(int4,\"(1)\")", "(,)"]),
        ("isbn", &["978-0-393-04002-9"]),
    ],
)];

#[test]
fn values_in_text_form_are_the_same() {
    for major in [NEWEST, OLDEST] {
        let major = matrix().unwrap_or(major);
        let mut scene = Scene::on("every-type-text", major);
        scene.config.sink = "  unknown_types: text\n".into();
        let mut sql = pinned(&scene);
        sql.exec(PREPARE);
        let mut families = families_of(&mut sql);
        families.extend(UNKNOWN);
        sql.exec(
            "create extension cube schema ext; create extension seg schema ext; create extension isn schema ext;
             create type strange as (t regtype, c cube)",
        );
        create(&mut sql, &families);
        fill(&mut sql, &families, major, 0);
        scene.drain();
        assert_all_equal(&mut scene, &families, true);
        fill(&mut sql, &families, major, 10_000);
        update(&mut sql, &families);
        scene.drain();
        assert_all_equal(&mut scene, &families, true);
        // What is unknown says so.
        let log =
            std::fs::read_to_string(scene.table("public.odd").join("_delta_log/00000000000000000000.json"));
        let log = log.expect("the table's first commit").replace("\\\"", "\"");
        assert!(log.contains("\"strandline.form\":\"unknown\""), "{log}");
    }
}

/// A table with such a column is refused by default, and does no harm to the others.
#[test]
fn an_unknown_type_stops_its_table_only() {
    let mut scene = Scene::new("every-type-unknown");
    scene.sql().exec(
        "create extension cube; create table odd (id int primary key, c cube);
         create table worse (id int primary key, a aclitem[]); create table good (id int primary key, i interval);
         insert into odd values (1, '(1)'); insert into worse values (1, '{=r/postgres}');
         insert into good values (1, '1 day')",
    );
    for i in 2..4 {
        let outcome = scene.run(&["--until-caught-up"]);
        assert!(outcome.stderr.contains("PG020"), "{}", outcome.stderr);
        assert!(
            outcome.stderr.contains("public.odd") && outcome.stderr.contains("public.worse"),
            "{}",
            outcome.stderr
        );
        assert_eq!(scene.difference("public.good", Engine::DuckDb), None);
        // The server cannot write `aclitem[]` in binary form: a stream that asked for it would end here.
        scene.sql().exec(&format!(
            "insert into odd values ({i}, '(1)'); insert into worse values ({i}, '{{=r/postgres}}');
             insert into good values ({i}, '-1 day')"
        ));
    }
}

/// Types without a binary form come as text in a stream that is binary.
#[test]
fn a_type_without_a_binary_form_is_text_by_itself() {
    let mut scene = Scene::new("every-type-no-send");
    scene.config.sink = "  unknown_types: text\n".into();
    let values = "'1 .. 2', 'a=r/postgres', '\\x00ff', 0.30000000000000004, '1 day'";
    let insert = |id: u32| {
        format!("insert into plain values ({id}, {values}), ({}, null, null, null, null, null)", id + 1)
    };
    let mut sql = scene.sql();
    sql.exec(
        "create role a; create extension seg; create domain rights as aclitem;
         create table plain (id int primary key, s seg, r rights, b bytea, f float8, i interval)",
    );
    sql.exec(&insert(1));
    scene.drain();
    scene.assert_equal(&["public.plain"]);
    sql.exec(&insert(3));
    sql.exec("update plain set s = '<3', r = '=r/postgres' where id = 4");
    scene.drain();
    scene.assert_equal(&["public.plain"]);
}

/// A type that is not known may come while it runs: then the stream begins again, in text form.
#[test]
fn an_unknown_type_that_comes_later_is_text_too() {
    let mut scene = Scene::new("every-type-later");
    scene.config.sink = "  unknown_types: text\n".into();
    scene.sql().exec(
        "create extension cube; create table good (id int primary key, v interval); insert into good values (1, '1 day')",
    );
    scene.drain();
    let mut running = scene.start_run(&[]);
    let mut wait_for = |scene: &mut Scene| {
        until(LONG, "both tables are equal", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            ["public.late", "public.good"].iter().all(|table| {
                scene.table(table).join("_delta_log").exists()
                    && scene.difference(table, Engine::DuckDb).is_none()
            })
        });
    };
    scene.sql().exec(
        "create table late (id int primary key, c cube, a aclitem[]); insert into late values (1, '(1,2)', '{=r/postgres}')",
    );
    wait_for(&mut scene);
    scene.sql().exec(
        "insert into late values (2, '(0.1)', null); update late set c = '(3)' where id = 1;
         insert into good values (2, '-1 mon')",
    );
    wait_for(&mut scene);
    running.terminate();
    running.wait(LONG).expect_code(0);
}

/// Values that a composite type of another form has are not written as if it had the old one.
#[test]
fn a_composite_type_that_changes_stops_its_tables() {
    let mut scene = Scene::new("every-type-changed");
    scene.sql().exec(
        "create type pair as (i int, t text); create table p (id int primary key, v pair[]);
         create table quiet (id int primary key, v pair); create table good (id int primary key);
         insert into quiet values (1, '(1,a)'); insert into p values (1, '{\"(1,a)\"}'); insert into good values (1)",
    );
    scene.drain();
    scene.assert_equal(&["public.p", "public.quiet"]);
    scene.sql().exec(
        "insert into p values (2, '{\"(2,b)\"}'); alter type pair add attribute n int;
         insert into p values (3, '{\"(3,c,4)\"}'); insert into good values (2)",
    );
    let outcome = scene.run(&["--until-caught-up"]);
    for table in ["public.p", "public.quiet"] {
        let told = outcome.stderr.lines().any(|line| line.contains("PG022") && line.contains(table));
        assert!(told, "{table}:\n{}", outcome.stderr);
    }
    scene.assert_equal(&["public.good"]);
}
