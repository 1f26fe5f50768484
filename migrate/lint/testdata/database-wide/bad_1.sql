-- +goose Up
create extension if not exists citext;
