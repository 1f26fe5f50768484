-- +goose Up
create temporary table a (id bigint);
