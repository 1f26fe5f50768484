-- +goose Up
truncate orders;
