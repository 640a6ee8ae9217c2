//! Messages and client of the admin API.
