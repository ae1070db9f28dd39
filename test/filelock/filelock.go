// Package filelock keeps two processes from making the same files at the same time.
package filelock
