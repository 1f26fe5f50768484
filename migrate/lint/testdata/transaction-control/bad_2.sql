-- +goose Up
/* a /* nested */ comment */ COMMIT;
