//! `ame-cxx` is `ame c++` in one word.

#[path = "../forward.rs"]
mod forward;

fn main() -> std::process::ExitCode {
    forward::to("c++")
}
