# What one does often; `just` lists it.
default:
    @just --list

# Build the binary as it is released.
build:
    cargo build --release -p ringfort-cli

# Run it with a throw-away folder.
run:
    cargo run --release -p ringfort-cli -- server --data target/try-data

# All tests of the workspace.
test:
    cargo test --workspace

# Formatting, lints, licences.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets
    cargo deny check
