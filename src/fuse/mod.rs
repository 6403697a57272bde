//! The mount: the only place that names fuser or an errno.
