//! The whole cluster under one seed; whole-process fault tests; checkers.
