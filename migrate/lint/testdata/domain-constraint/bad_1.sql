-- +goose Up
create domain positive as int check (value > 0);
