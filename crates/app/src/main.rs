//! The `lockgate` program; everything is in the library.

/// The C library's allocator keeps what its many arenas once held: under a steady load it came to three times as much memory.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    app::main()
}
