//! The `lockgate` program; everything is in the library.

fn main() -> std::process::ExitCode {
    app::main()
}
