// A script for the editor.
