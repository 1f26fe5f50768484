-- +goose Up
create event trigger e on ddl_command_end execute function f();
