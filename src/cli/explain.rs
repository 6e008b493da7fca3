//! `strandline explain CODE`: the page of the code, from inside the binary.

use super::args::Output;
use super::output::{out, out_json};
use super::{Outcome, exit};
use crate::error::{Code, Disposition, Error, codes};
use serde_json::json;
use std::process::ExitCode;

/// Embeds `docs/errors/<code>.md` for each code that is named.
macro_rules! pages {
    ($($id:ident)*) => {
        &[$((stringify!($id), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors/", stringify!($id), ".md")))),*]
    };
}

/// The pages. A test below fails when a page is there and not named.
const PAGES: &[(&str, &str)] = pages! {
    CF001 CF002 CF003 CF004 CF005 KF001 KF002 KF003 KF004 KF005 KF006 KF007 KF008
    MY001 MY002 MY003 MY004 MY006 MY007 MY008 MY009 MY010 MY020 MY021 MY022 MY023 MY024 MY025 MY026
    MY027 MY028 MY029 MY030 MY031 MY032 MY033 MY034 MY035 MY036 MY037 MY040 MY042 MY043 MY044 MY045
    PG001 PG002 PG003 PG004 PG005 PG006 PG007 PG008 PG009 PG010 PG011
    PG012 PG013 PG014 PG015 PG016 PG020 PG021 PG022 PG023 PG024 PG025 PG026 PG040 PG041 PG042 PG043 PG044
    PG045 PG046 PG047 RT001 RT002 RT003 TG001 TG002 TG003 TG006 TG010 TG011 TG012 TG013 TG014 TG015 TG016 TG017 TG018
    TG019 TG020 TG021 TG022
};

pub(super) fn command(output: Output, text: &str) -> Outcome {
    let Some(code) = codes::find(text.trim()) else { return Err(unknown(text).into()) };
    let page = PAGES.iter().find(|(id, _)| *id == code.id).map(|(_, page)| *page);
    match output {
        Output::Text => out(page.map_or_else(|| short(code), |page| page.trim_end().to_owned()).as_str()),
        Output::Json => out_json(&json!({
            "code": code.id,
            "title": code.title,
            "exit": code.exit,
            "effect": effect(code),
            "page": page,
        })),
    }
    Ok(ExitCode::from(exit::OK))
}

fn unknown(text: &str) -> Error {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(20).collect();
    let areas = "CF configuration, MY MySQL, PG PostgreSQL, TG target, RT the program itself";
    Error::new(codes::CF005, format!("there is no error code \"{shown}\""))
        .with_try(format!("copy the code from the message, such as PG041; the areas are {areas}"))
}

fn effect(code: Code) -> &'static str {
    match code.disposition {
        Disposition::Retry => "temporary: it is tried again, for ever",
        Disposition::HaltTable => "the table stops, the others go on",
        Disposition::HaltPipeline => "the pipeline stops until a person acts",
        Disposition::Bug => "the pipeline stops before it does harm; please report it",
    }
}

fn short(code: Code) -> String {
    format!("{}: {}\n\nEffect: {}.\nExit code: {}.", code.id, code.title, effect(code), code.exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_exists_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors");
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(code) = name.strip_suffix(".md").and_then(codes::find) else { continue };
            assert!(PAGES.iter().any(|(id, _)| *id == code.id), "name {code} in cli::explain::PAGES");
        }
    }

    #[test]
    fn a_code_without_a_page_still_says_what_happens() {
        assert_eq!(
            short(codes::PG022),
            "PG022: the table's columns changed\n\nEffect: the table stops, the others go on.\nExit code: 1."
        );
    }
}
