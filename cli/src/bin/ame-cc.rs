//! `ame-cc` is `ame cc` in one word.

#[path = "../forward.rs"]
mod forward;

fn main() -> std::process::ExitCode {
    forward::to("cc")
}
