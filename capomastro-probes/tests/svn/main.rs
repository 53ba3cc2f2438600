//! The svn probe.
