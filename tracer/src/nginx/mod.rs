//! Everything that is read from Nginx: log lines, files, processes, configuration.
