//! Keeps and repairs: the storage engine, its services and jobs.
