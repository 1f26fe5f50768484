-- +goose Up
reset work_mem;
