//! docs/cli.md: the command line's reference, made from the same texts as `--help`. The test
//! below keeps the two the same; `UPDATE_DOCS=1 cargo test -p holdfast` writes the file anew.

use clap::Command;

const HEAD: &str = "\
# The command line

<!-- Made from the program's own help texts: UPDATE_DOCS=1 cargo test -p holdfast -->

`at LOCATION` in front is the same as `--at LOCATION` anywhere. A long option may have one dash
(`-tag`, `-to`), and options may follow arguments. How snapshots are named: the start of an id,
`latest`, `latest~2`, `tag:NAME`, `host:NAME`, `path:/x`, or a time (`2026-11-20`,
`2026-11-20T10:00`, `\"2 days ago\"`), which means the newest at or before it; `:/path` after any
of these is a path in it. The events of `--json` are described in [json.md](json.md).
";

fn section(text: &mut String, command: &mut Command, name: &str, depth: usize) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let heading = "#".repeat(depth);
    text.push_str(&format!(
        "\n{heading} {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    ));
    for sub in command.get_subcommands_mut() {
        let name = format!("{name} {}", sub.get_name());
        section(text, sub, &name, 3);
    }
}

/// Text after the options is wrapped where the terminal ends, line by line: lines that were broken
/// by hand, and lists, fit on the narrowest, or they would be broken twice.
#[test]
fn help_fits_on_eighty_columns() {
    fn look(command: &clap::Command, name: &str, wide: &mut Vec<String>) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for paragraph in text.split("\n\n") {
            let is_one = !paragraph.contains('\n') && !paragraph.starts_with(' ');
            let is_wide = |line: &&str| line.chars().count() > 80 && !is_one;
            wide.extend(paragraph.lines().filter(is_wide).map(|line| format!("{name}: {line}")));
        }
        for sub in command.get_subcommands() {
            look(sub, &format!("{name} {}", sub.get_name()), wide);
        }
    }
    let mut wide = Vec::new();
    look(&crate::args::command(), "holdfast", &mut wide);
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn the_reference_is_what_help_says() -> Result<(), Box<dyn std::error::Error>> {
    let mut command = crate::args::command().term_width(92);
    command.build();
    let mut text = HEAD.to_owned();
    section(&mut text, &mut command, "holdfast", 2);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))?;
        std::fs::write(path, &text)?;
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "docs/cli.md is out of date: UPDATE_DOCS=1 cargo test -p holdfast");
    Ok(())
}
